"""`costtrace demo`: a small application, what it cost, and where to look next.

Without `--live` nothing leaves this machine: the real SDKs talk to the loopback provider.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

from costtrace.accounting import CostLedger
from costtrace.accounting.summaries import summary_of
from costtrace.api import budget
from costtrace.cli import helpdesk
from costtrace.cli.arguments import add_json
from costtrace.cli.errors import UsageError
from costtrace.cli.helpdesk import LIMITS, QUESTIONS, REQUESTS, Clients, HelpDesk, PlannedRequest
from costtrace.cli.output import bold, dim, is_colored, money, note, show, show_json
from costtrace.entry import Alert, CostEntry
from costtrace.exceptions import BudgetExceededError
from costtrace.instrumentation import is_disabled
from costtrace.instrumentation.estimate import Estimate
from costtrace.money import format_usd, to_usd
from costtrace.providers import PROVIDERS, Request
from costtrace.reports import render_text, report_document
from costtrace.stores.base import EVERYTHING
from costtrace.testing import LoopbackProvider, Reply

KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
LETTER = "Dear Sir or Madam, I am writing to you about a matter that cannot wait. " * 20
ANSWERS = {  # what the provider on this machine says: function -> text
    "classify": "billing",
    "answer": "Yes. We have found the second payment and it is on its way back to you. "
    "It takes three to five days, and you will get a mail once it is done.",
    "explain": "Our team checks both payments first. Then the second one goes back the way it "
    "came, which takes three to five days. You need not do anything.",
    "draft": "Thank you for telling us. One of the two payments was taken by mistake, and we have "
    "sent it back today.",
    "summarise": "Charged twice for October; the second payment was found and goes back.",
    "translate": "Débité deux fois en octobre ; le second paiement a été retrouvé.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.add_argument(
        "--db",
        metavar="PATH",
        default="costtrace-demo.db",
        help="the SQLite file of the ledger (costtrace-demo.db here); an existing one goes on",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="with OPENAI_API_KEY or ANTHROPIC_API_KEY: on the real APIs, after showing what it "
        "may cost at most and asking",
    )
    parser.add_argument("--yes", action="store_true", help="with --live: do not ask")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the application and report on it."""
    if is_disabled():
        raise UsageError("COSTTRACE_DISABLED is set, so there is nothing to see: unset it")
    keys = _keys() if arguments.live else ()
    is_new = not Path(arguments.db).exists()
    with CostLedger(path=arguments.db) as ledger:
        story = Story(ledger, is_quiet=arguments.json)
        maximum = _agreed_maximum(ledger, keys, arguments.yes) if arguments.live else None
        story.tell(_opening(arguments.live) + ("" if is_new else _continued(ledger, arguments.db)))
        with _live_clients(keys) if arguments.live else _local_clients(story) as clients:
            _work(HelpDesk(clients, ledger), story, maximum)
        _finish(ledger, story, arguments)
    return 0


@dataclass
class Story:
    """What happens while the application runs, told as it happens; a sink of the ledger."""

    ledger: CostLedger
    is_quiet: bool
    provider: LoopbackProvider | None = None
    refused: BudgetExceededError | None = None
    requests_before: int | None = None
    alerts: list[Alert] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger.sinks.append(self)

    def tell(self, text: str = "") -> None:
        """Print a line of the story."""
        if not self.is_quiet:
            show(text or "\n")
            sys.stdout.flush()

    def entry(self, entry: CostEntry) -> None:
        """Print a call."""
        usage = entry.usage
        self.tell(
            f"  {entry.user_id:<6} {' > '.join(entry.call_path):<15} {entry.model:<23}"
            f"{usage.input_tokens:>5} in {usage.output_tokens:>4} out  "
            f"{format_usd(entry.cost_usd or Decimal(0), 6):>10}"
            f"{'  streamed' if entry.streamed else ''}"
        )

    def alert(self, alert: Alert) -> None:
        """Print an alert."""
        self.alerts.append(alert)
        self.tell(bold(f"  ALERT  {alert}"))

    @property
    def requests(self) -> int | None:
        """How many requests the provider has seen; None where it is not ours."""
        return None if self.provider is None else len(self.provider.requests)


def _work(desk: HelpDesk, story: Story, maximum: Decimal | None) -> None:
    whole = budget("demo", maximum, window="block", ledger=story.ledger) if maximum else None
    with whole or nullcontext(), _provider_errors():
        story.tell("\nTwo users, both SDKs, plain and streamed:")
        desk.answer_tickets()
        story.tell("\nAt the same time, on the asynchronous clients:")
        asyncio.run(desk.close_the_day())
        story.tell(f"\nCarol may spend {format_usd(LIMITS['carol'], 3)} a month, and keeps asking:")
        _ask_until_refused(desk, story)


def _ask_until_refused(desk: HelpDesk, story: Story) -> None:
    for question in QUESTIONS:
        before = story.requests
        try:
            desk.ask(question)
        except BudgetExceededError as error:
            story.refused, story.requests_before = error, before
            story.tell(bold("  BudgetExceededError") + f": {error}")
            story.tell(_proof(story))
            return
    story.tell("  All of it fitted into her budget.")


def _proof(story: Story) -> str:
    if story.provider is None:
        return "  Nothing was sent."
    return (
        f"  The provider had seen {story.requests_before} requests before that call, and has seen "
        f"{story.requests} now: nothing was sent."
    )


def _opening(is_live: bool) -> str:
    where = "on the real APIs" if is_live else "on this machine: no key, no network"
    return bold(f"A help desk with three users, {where}.")


def _continued(ledger: CostLedger, path: str) -> str:
    return f"\n{path} is there already: its {len(ledger.entries)} calls still count."


def _finish(ledger: CostLedger, story: Story, arguments: argparse.Namespace) -> None:
    summary = summary_of(
        ledger.store, EVERYTHING, now=ledger.now(), prices_date=ledger.prices.as_of
    )
    if arguments.json:
        show_json(
            {
                "schema": "costtrace.demo",
                "schema_version": 1,
                "database": os.path.abspath(arguments.db),
                "is_live": arguments.live,
                "alerts": [str(alert) for alert in story.alerts],
                "refused": _refused(story),
                "report": report_document(summary),
            }
        )
        return
    story.tell("\n" + render_text(summary, is_colored=is_colored(sys.stdout)))
    story.tell("\n" + _next_steps(arguments.db))


def _refused(story: Story) -> dict[str, Any] | None:
    if story.refused is None:
        return None
    return {
        "error": str(story.refused),
        "user_id": story.refused.user_id,
        "limit_usd": money(story.refused.limit_usd),
        "spent_usd": money(story.refused.spent_usd),
        "requested_usd": money(story.refused.requested_usd),
        "requests_before": story.requests_before,
        "requests_after": story.requests,
    }


def _next_steps(path: str) -> str:
    steps = (
        (f"costtrace report {path} --by user_id,function_name", "who spent it on what"),
        (f"costtrace budgets {path}", "where each budget stands"),
        (f"costtrace budgets --replay {path} --limit '*=0.002/day'", "what a limit would do"),
        ("costtrace prices claude-sonnet-4-6", "what a model costs, and who says so"),
        ("costtrace run --limit 1 your_script.py", "a limit for a script of yours"),
    )
    wide = max(len(command) for command, _ in steps)
    lines = [f"  {command:<{wide}}  {dim(f'# {what}')}" for command, what in steps]
    return "\n".join(
        [
            bold("Look at next"),
            *lines,
            f"The ledger is {os.path.abspath(path)}; another run goes on in it.",
            f"The application is {helpdesk.__file__}",
        ]
    )


# On this machine


@contextmanager
def _local_clients(story: Story) -> Iterator[Clients]:
    with LoopbackProvider() as provider:
        for name, request in REQUESTS.items():
            if name in ANSWERS:
                provider.on(_sends(request), Reply(text=ANSWERS[name]))
        provider.default = Reply(text=LETTER, output_tokens=380)
        story.provider = provider
        with _no_proxy_to_this_machine():
            yield Clients(
                provider.openai(),
                provider.anthropic(),
                provider.async_openai,
                provider.async_anthropic,
            )


def _sends(request: PlannedRequest) -> Any:
    said = request.body.get("messages", request.body.get("input"))
    return lambda received: (
        received.path.endswith(request.path)
        and received.body.get("messages", received.body.get("input")) == said
    )


@contextmanager
def _no_proxy_to_this_machine() -> Iterator[None]:
    """Let the SDKs reach this machine directly, whatever proxy is configured for the others."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    for name, value in before.items():
        os.environ[name] = ",".join(filter(None, (value, "127.0.0.1")))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# On the real APIs


def _keys() -> tuple[str, ...]:
    found = tuple(name for name, key in KEYS.items() if os.environ.get(key, "").strip())
    if not found:
        raise UsageError(f"--live needs {' or '.join(KEYS.values())} in the environment")
    return found


@contextmanager
def _live_clients(keys: tuple[str, ...]) -> Iterator[Clients]:
    openai = import_module("openai") if "openai" in keys else None
    anthropic = import_module("anthropic") if "anthropic" in keys else None
    yield Clients(
        openai and openai.OpenAI(),
        anthropic and anthropic.Anthropic(),
        openai and openai.AsyncOpenAI,
        anthropic and anthropic.AsyncAnthropic,
    )


def _agreed_maximum(ledger: CostLedger, keys: tuple[str, ...], is_agreed: bool) -> Decimal:
    """Say what the run may cost at most, and go on only if that is wanted."""
    maximum = _maximum(ledger, keys)
    note(
        f"This runs on the API of {' and '.join(keys)}, with your key. It costs "
        f"{format_usd(maximum)} at most, and a budget holds it to that."
    )
    if is_agreed:
        return maximum
    if not sys.stdin.isatty():
        raise UsageError("--live asks before it spends, and there is no terminal: add --yes")
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("stopped: nothing was sent")
    return maximum


def _maximum(ledger: CostLedger, keys: tuple[str, ...]) -> Decimal:
    planned = [request for request in REQUESTS.values() if request.provider in keys]
    return sum((_worst_case(ledger, one) for one in planned), LIMITS["carol"])


def _worst_case(ledger: CostLedger, planned: PlannedRequest) -> Decimal:
    (provider,) = (one for one in PROVIDERS if one.name == planned.provider)
    request = provider.request(planned.path, planned.body)
    assert isinstance(request, Request)
    worst, _ = Estimate(request, ledger.prices, ledger.now()).worst_case()
    assert worst is not None  # the demo's models have prices
    return to_usd(worst)


@contextmanager
def _provider_errors() -> Iterator[None]:
    """Say in one line what a provider has against the run, such as a wrong key."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] in KEYS:
            raise UsageError(f"the provider refused: {error}") from error
        raise
