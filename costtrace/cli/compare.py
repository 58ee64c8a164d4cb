"""`costtrace compare`: several models are asked the same; what each costs, and which are right."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from costtrace.accounting import CostLedger
from costtrace.api import Comparison, budget, compare_models, estimate
from costtrace.cli.arguments import add_json, amount, positive
from costtrace.cli.errors import UsageError
from costtrace.cli.ledger_files import environment_ledger
from costtrace.cli.output import money, note, progress, show, show_json
from costtrace.money import format_usd

_EPILOG = """\
examples:
  costtrace compare gpt-5.4-mini claude-haiku-4-5 --prompt "Capital of France?" --expected Paris
  costtrace compare gpt-5.4-mini gpt-5.4 --file questions.jsonl --runs 3 --budget 0.50
  echo "Why is the sky blue?" | costtrace compare claude-haiku-4-5 claude-sonnet-4-6

A line of the file is {"prompt": "..."} or {"messages": [...]}, and "expected" beside it: a text
that must stand in the answer. The clients are made of the environment (OPENAI_API_KEY ...); the
calls are entered in the ledger that COSTTRACE_DB names.
"""


class Question(NamedTuple):
    """What the models are asked, and what must stand in the answer."""

    messages: Any
    expected: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("models", metavar="MODEL", nargs="+", help="of any provider")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--prompt", metavar="TEXT", help="standard input without it")
    asked.add_argument("--file", metavar="FILE", help="JSON lines with one question in each")
    parser.add_argument("--expected", metavar="TEXT", help="must stand in every answer")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument("--max-tokens", type=positive, metavar="N", help="of each answer")
    parser.add_argument("--runs", type=positive, default=1, metavar="N", help="ask so often")
    parser.add_argument("--budget", type=amount, metavar="USD", help="all of it costs no more")
    parser.add_argument("--answers", action="store_true", help="show the answers too")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a row for each model; 1 if a budget stopped it or nobody answered."""
    questions = _questions(arguments)
    options = {
        name: value
        for name in ("max_tokens", "system")
        if (value := getattr(arguments, name)) is not None
    }
    ledger = environment_ledger()
    note(_worst(arguments, questions, ledger))
    with ExitStack() as stack:
        if arguments.budget is not None:
            limit = budget("costtrace compare", arguments.budget, window="block", ledger=ledger)
            stack.enter_context(limit)
        found = _compared(arguments, questions, ledger, options)
    ledger.flush()
    _show(found, arguments)
    is_answered = any(answer.is_answered for row in found for answer in row.answers)
    return 0 if is_answered and found.stopped is None else 1


def _compared(
    arguments: argparse.Namespace,
    questions: list[Question],
    ledger: CostLedger,
    options: dict[str, Any],
) -> Comparison:
    expected = [question.expected or arguments.expected for question in questions]
    try:
        found = compare_models(
            list(dict.fromkeys(arguments.models)),
            [question.messages for question in questions],
            expected=expected,
            runs=arguments.runs,
            ledger=ledger,
            progress=lambda model, done, whole: progress(f"{done:,} of {whole:,}: {model}"),
            **options,
        )
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    finally:
        progress("")
    return found


def _show(found: Comparison, arguments: argparse.Namespace) -> None:
    if arguments.json:
        show_json(_document(found, arguments.answers))
        return
    show(str(found))
    if arguments.answers:
        for row in found:
            for answer in row.answers:
                show(f"\n{row.model}, question {answer.prompt + 1}, run {answer.run + 1}:")
                show(answer.text or f"({answer.error or 'no text'})")


def _worst(arguments: argparse.Namespace, questions: list[Question], ledger: CostLedger) -> str:
    """Return what it may cost at most, for who wants to stop it now."""
    total = Decimal(0)
    for model in dict.fromkeys(arguments.models):
        for question in questions:
            worst = estimate(
                model, question.messages, arguments.max_tokens, ledger=ledger
            ).worst_usd
            if worst is None:
                return f"No price is known for {model!r}, so nobody knows what this costs."
            total += worst * arguments.runs
    return f"This costs {format_usd(total)} at most, and more only where the SDKs have to retry."


def _document(found: Comparison, with_answers: bool) -> dict[str, Any]:
    rows = []
    for row in found:
        facts = row.facts()
        if with_answers:
            facts["answers"] = [
                {
                    "prompt": answer.prompt,
                    "run": answer.run,
                    "text": answer.text,
                    "correct": answer.correct,
                    "cost_usd": money(answer.cost_usd),
                    "latency_s": answer.latency_s,
                    "error": answer.error,
                }
                for answer in row.answers
            ]
        rows.append(facts)
    return {
        "schema": "costtrace.comparison",
        "schema_version": 1,
        "currency": "USD",
        "prompts": found.prompts,
        "runs": found.runs,
        "cost_usd": money(found.cost_usd),
        "cheapest": found.cheapest.model if found.cheapest else None,
        "stopped": None if found.stopped is None else str(found.stopped),
        "not_asked": list(found.not_asked),
        "models": rows,
    }


def _questions(arguments: argparse.Namespace) -> list[Question]:
    if arguments.file is not None:
        return _from_file(arguments.file)
    text = sys.stdin.read() if arguments.prompt is None else arguments.prompt
    if not text.strip():
        raise UsageError("there is no question: give one with --prompt, --file or standard input")
    return [Question(text, None)]


def _from_file(name: str) -> list[Question]:
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} cannot be read: {error}") from error
    found = [
        _question(line, f"{name}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not found:
        raise UsageError(f"{name} is empty: there is no question in it")
    return found


def _question(line: str, where: str) -> Question:
    try:
        read = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{where}: no JSON: {error}") from error
    asked = read.get("messages", read.get("prompt")) if isinstance(read, dict) else read
    expected = read.get("expected") if isinstance(read, dict) else None
    if not isinstance(asked, (str, list)) or not asked:
        raise UsageError(f'{where}: wants a "prompt" or "messages"')
    if expected is not None and not isinstance(expected, str):
        raise UsageError(f'{where}: "expected" must be a text, not {expected!r}')
    return Question(asked, expected)
