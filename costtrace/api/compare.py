"""`compare_models`: the same question to several models, and what each answer costs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, TypeAlias

from costtrace.accounting.default import default_ledger
from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.open_budget import OpenBudget
from costtrace.accounting.terms import BudgetTerms, checked_id
from costtrace.accounting.window import Window
from costtrace.api.asking import answer_text, arguments, create_method, protocol_of, provider_of
from costtrace.api.clients import Clients
from costtrace.api.comparison import Answer, Comparison, ModelRow
from costtrace.api.marking import Check, Expected, Mark, Marking
from costtrace.api.prompts import Conversation, conversations
from costtrace.api.tracking import checked_ledger
from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetExceededError
from costtrace.money import to_pico, to_usd
from costtrace.scopes import Scope, current, enter, leave

FUNCTION_NAME = "compare_models"
"""The function under which the calls of a comparison stand in the ledger."""

OnProgress: TypeAlias = Callable[[str, int, int], object]
"""Called after each answer with the model, how many calls are done, and how many there are."""

_NEVER_AGAIN = (401, 403, 404)  # statuses that a model's other prompts would get as well
_UNLIMITED = BudgetTerms(
    user_id=FUNCTION_NAME,
    window=Window.of(None),
    alert_at=(),
    on_exceed="warn",
    on_unknown_model="allow",
    on_store_error="allow",
)


def compare_models(
    models: Sequence[str] | Mapping[str, Mapping[str, Any]],
    messages: object,
    *,
    expected: Expected | Sequence[Expected] = None,
    check: Check | None = None,
    client: object = None,
    runs: int = 1,
    ledger: CostLedger | None = None,
    progress: OnProgress | None = None,
    **create_options: Any,
) -> Comparison:
    """Ask several models the same, and return what each costs, how fast and how right it is.

    `models` are names, or a mapping of each name to options of its own. `messages` is a text, one
    list of messages, or a list of several of either; `expected` is then one text for all or a list
    with one for each. It must stand in the answer as whole words, whatever the case; `check` gets
    the answer's text and decides by itself. Every prompt is asked `runs` times, one after another.

    `client` is one client, several, or a mapping of provider to client; what is missing is made by
    the SDK's own constructor from the environment. `create_options` go to `create`: `max_tokens`
    (1024 for Claude without it, since its API needs one) and `system` in the words of each SDK,
    the others as they are.

    The calls stand in the ledger under the function `compare_models`, and all budgets around hold
    for them: when one refuses a call, the comparison ends, and `stopped` says so. An error of one
    model stands in its row and leaves the others alone. Rows keep the order of `models`; the one
    with the least cost per correct answer is marked. Raises `TypeError` or `ValueError` for wrong
    arguments, before anything is sent.
    """
    plan = _Plan(models, messages, expected, check, runs, ledger, create_options, is_async=False)
    clients = Clients(client, is_async=False)
    try:
        for contestant in plan.contestants:
            for question in contestant.questions(clients):
                with question:
                    question.response = question.ask()
                contestant.note(question, plan.marking.mark(*question.to_mark))
                plan.report(contestant, progress)
        return plan.comparison()
    finally:
        clients.close()


async def acompare_models(
    models: Sequence[str] | Mapping[str, Mapping[str, Any]],
    messages: object,
    *,
    expected: Expected | Sequence[Expected] = None,
    check: Check | None = None,
    client: object = None,
    runs: int = 1,
    ledger: CostLedger | None = None,
    progress: OnProgress | None = None,
    **create_options: Any,
) -> Comparison:
    """As `compare_models`, with async clients; `check` may be a coroutine function.

    Under asyncio the models are asked at the same time, each one question after another.
    """
    plan = _Plan(models, messages, expected, check, runs, ledger, create_options, is_async=True)
    clients = Clients(client, is_async=True)

    async def ask(contestant: _Contestant) -> None:
        for question in contestant.questions(clients):
            with question:
                question.response = await question.ask()
            contestant.note(question, await plan.marking.amark(*question.to_mark))
            plan.report(contestant, progress)

    try:
        await _together([partial(ask, contestant) for contestant in plan.contestants])
        return plan.comparison()
    finally:
        await clients.aclose()


class _Plan:
    """What is to be asked of whom, checked before anything is sent; and how far it has got."""

    def __init__(
        self,
        models: object,
        messages: object,
        expected: object,
        check: object,
        runs: int,
        ledger: CostLedger | None,
        options: dict[str, Any],
        *,
        is_async: bool,
    ) -> None:
        if isinstance(runs, bool) or not isinstance(runs, int):
            raise TypeError(f"runs must be an int, not {runs!r}")
        if runs < 1:
            raise ValueError(f"runs must be at least 1, but is {runs}")
        self.runs = runs
        self.prompts = conversations(messages)
        self.marking = Marking(expected, check, len(self.prompts), is_async=is_async)
        self.ledger = checked_ledger(ledger)
        self.stopped: BudgetExceededError | None = None
        self.contestants = [
            _Contestant(self, model, {**options, **own}) for model, own in _named(models).items()
        ]
        self._done = 0

    def is_over(self) -> bool:
        """Return whether a budget has ended the comparison."""
        return self.stopped is not None

    def report(self, contestant: _Contestant, progress: OnProgress | None) -> None:
        """Tell of one more answer."""
        self._done += 1
        if progress is not None:
            whole = len(self.contestants) * len(self.prompts) * self.runs
            progress(contestant.model, self._done, whole)

    def comparison(self) -> Comparison:
        """Return the rows so far."""
        asked = [one for one in self.contestants if one.was_tried]
        return Comparison(
            rows=tuple(contestant.row() for contestant in asked),
            prompts=len(self.prompts),
            runs=self.runs,
            stopped=self.stopped,
            not_asked=tuple(one.model for one in self.contestants if not one.was_tried),
        )


class _Contestant:
    """One model under comparison: the scope of its calls, and what they came to.

    Besides the user's ledger, a small one of its own gets each of its entries; that tells them from
    all others made at the same time.
    """

    def __init__(self, plan: _Plan, model: str, options: dict[str, Any]) -> None:
        if options.get("stream"):
            raise ValueError("stream must not be set: compare_models reads whole answers")
        self.model = model
        self.was_tried = False
        self._plan = plan
        self._options = options
        self._receipts = CostLedger()
        self._receipts.sinks.clear()  # the user's ledger tells of the entries already
        self._seen = 0
        self._answers: list[Answer] = []
        self._error: str | None = None
        self.scope = Scope(
            current(),
            function_name=FUNCTION_NAME,
            budget=OpenBudget(self._receipts, _UNLIMITED),
            ledger=plan.ledger,
        )

    def questions(self, clients: Clients) -> Iterator[_Question]:
        """Yield what is to be asked, for as long as it makes sense."""
        if self._plan.is_over():
            return
        self.was_tried = True
        ledger = self.scope.ledger
        prices = (ledger if isinstance(ledger, CostLedger) else default_ledger()).prices
        try:
            client = clients.of(provider_of(self.model, prices))
        except Exception as error:  # no key in the environment, or no such SDK
            self._error = _worded(error)
            return
        for run in range(self._plan.runs):
            for number, prompt in enumerate(self._plan.prompts):
                if self._plan.is_over():
                    return
                facts = (self.model, prompt, self._options)
                question = _Question(self.scope, client, facts, number, run)
                yield question
                if getattr(question.error, "status_code", None) in _NEVER_AGAIN:
                    return

    def note(self, question: _Question, mark: Mark) -> None:
        """Note what came of a question."""
        error = question.error
        if isinstance(error, BudgetExceededError):
            self._plan.stopped = self._plan.stopped or error
            self._error = self._error or "stopped by a budget"
            return
        worded = mark.error if error is None else _worded(error)
        self._error = self._error or worded
        entries = self._new_entries()
        self._answers.append(
            Answer(
                prompt=question.number,
                run=question.run,
                text=question.text,
                correct=mark.correct,
                prompt_tokens=sum(entry.prompt_tokens for entry in entries),
                completion_tokens=sum(entry.completion_tokens for entry in entries),
                cost_usd=_cost(entries, is_answered=error is None),
                latency_s=question.latency_s if error is None else None,
                error=worded,
            )
        )

    def row(self) -> ModelRow:
        """Return the row of this model."""
        return ModelRow(model=self.model, answers=tuple(self._answers), error=self._error)

    def _new_entries(self) -> list[CostEntry]:
        entries = self._receipts.entries
        latest = list(islice(reversed(entries), len(entries) - self._seen))
        self._seen += len(latest)
        return latest[::-1]


class _Question:
    """One call, made inside of a `with`: it stands in the scope, and its errors are kept."""

    def __init__(
        self,
        scope: Scope,
        client: Any,
        facts: tuple[str, Conversation, dict[str, Any]],
        number: int,
        run: int,
    ) -> None:
        self.number = number
        """Of the prompt, from 0."""
        self.run = run
        self._scope = scope
        self._client = client
        self._facts = facts
        self.response: object = None
        self.error: Exception | None = None
        self.latency_s = 0.0

    def ask(self) -> Any:
        """Call the SDK."""
        protocol = protocol_of(self._client) or ""
        return create_method(self._client, protocol)(**arguments(protocol, *self._facts))

    @property
    def text(self) -> str:
        """The text of the answer."""
        return answer_text(self.response)

    @property
    def to_mark(self) -> tuple[int, str | None]:
        """What is to be marked: the number of the prompt, and the answer, None without one."""
        return self.number, self.text if self.error is None else None

    def __enter__(self) -> _Question:
        self._visit = enter(self._scope)
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.latency_s = time.perf_counter() - self._started
        leave(self._visit)
        self.error = error if isinstance(error, Exception) else None
        return self.error is not None


async def _together(work: list[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Do all of it, at the same time where asyncio runs it."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        for one in work:
            await one()
        return
    tasks = [asyncio.ensure_future(one()) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()  # where one has failed, the others must not go on unheard


def _named(models: object) -> dict[str, Mapping[str, Any]]:
    """Return each model's own options."""
    if isinstance(models, str) or not isinstance(models, (Sequence, Mapping)):
        raise TypeError(f"models must be a list of names, not {type(models).__name__}")
    if not models:
        raise ValueError("models must name at least one model")
    named = models if isinstance(models, Mapping) else {model: {} for model in models}
    if len(named) != len(models):
        raise ValueError("models names one twice: runs= asks each more than once")
    for model, own in named.items():
        checked_id("model", model)
        if not isinstance(own, Mapping):
            raise TypeError(f"the options of {model!r} must be a mapping, not {own!r}")
    return dict(named)


def _cost(entries: list[CostEntry], *, is_answered: bool) -> Decimal | None:
    """Return the sum of the entries; an answer without an entry was not seen, so not priced."""
    if any(entry.cost_usd is None for entry in entries) or (is_answered and not entries):
        return None
    return to_usd(sum(to_pico(entry.cost_usd or 0) for entry in entries))


def _worded(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
