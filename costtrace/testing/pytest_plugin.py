"""The pytest plugin: what the calls of each test cost, held to a limit or to a committed file.

pytest 8 or newer loads it by itself where costtrace is installed; it does nothing unless it is
asked to, by an option or by `@pytest.mark.cost_limit`. It hears the entries of every ledger through
the logger `costtrace.usage`. `-p no:costtrace` keeps it out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from costtrace.testing.cost_lock import TestUse
    from costtrace.testing.provider import LoopbackProvider

MARK = "cost_limit"
LIMITS = ("usd", "tokens", "calls")
PROPERTY = "costtrace"
SHOWN = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """State the options; each begins with `--cost-`."""
    group = parser.getgroup("costtrace", "what the LLM calls of the tests cost")
    group.addoption(
        "--cost-summary", action="store_true", help="show what the calls of each test cost"
    )
    group.addoption(
        "--cost-lock",
        metavar="FILE",
        help="fail if a test uses more tokens than FILE says; prices play no part",
    )
    group.addoption(
        "--cost-lock-update",
        action="store_true",
        help="write what the tests that passed used to the file of --cost-lock instead",
    )
    group.addoption(
        "--cost-tolerance",
        default="10%",
        metavar="SHARE",
        help="how much more a test may use before --cost-lock fails it (10%% unless given)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Check the options before any test runs."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(usd=None, tokens=None, calls=None): fail the test if its LLM calls take more",
    )
    config.pluginmanager.register(Meter(config), "costtrace_meter")


@pytest.fixture
def loopback_provider() -> Iterator[LoopbackProvider]:
    """A provider on 127.0.0.1 whose `.openai()` and `.anthropic()` are real SDK clients."""
    from costtrace.testing.provider import LoopbackProvider

    with LoopbackProvider() as provider:
        yield provider


class Meter:
    """Measures each test where it runs, and adds up where the reports come together."""

    def __init__(self, config: pytest.Config) -> None:
        self._lock: str | None = config.getoption("--cost-lock")
        self._is_update: bool = config.getoption("--cost-lock-update")
        self._is_summary: bool = config.getoption("--cost-summary")
        self._is_worker = hasattr(config, "workerinput")  # pytest-xdist's
        self._tolerance = self._checked(config.getoption("--cost-tolerance"))
        self._heard: _Heard | None = None
        self._uses: dict[str, TestUse] = {}
        self._passed: set[str] = set()
        self._problems: list[str] = []

    def _checked(self, tolerance: str) -> Fraction:
        from costtrace.testing.cost_lock import read_lock, share

        if self._is_update and not self._lock:
            raise pytest.UsageError("--cost-lock-update needs --cost-lock FILE")
        try:
            if self._lock and not self._is_worker:  # a worker of xdist runs somewhere else
                if Path(self._lock).exists():
                    read_lock(self._lock)
                elif not self._is_update:
                    raise ValueError(
                        f"{self._lock} does not exist: make it with --cost-lock-update"
                    )
            return share(tolerance)
        except ValueError as problem:
            raise pytest.UsageError(str(problem)) from None

    @property
    def _is_on(self) -> bool:
        return bool(self._is_summary or self._lock)

    # where the test runs

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Begin to listen, before the test's fixtures are set up."""
        if self._is_on or item.get_closest_marker(MARK):
            self._heard = _Heard()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Fail a test that took more than its mark allows."""
        __tracebackhide__ = True
        limits = _limits(item.get_closest_marker(MARK))
        result = yield
        if self._heard is not None:
            for problem in _passed_limits(self._heard.use(), limits):
                pytest.fail(problem, pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Stop listening, and hand on what was heard with the test's report."""
        try:
            return (yield)
        finally:
            if self._heard is not None:
                use = self._heard.stop()
                self._heard = None
                if use.calls:
                    item.user_properties.append((PROPERTY, _packed(use)))

    # where the reports come together

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test used, wherever it ran."""
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == PROPERTY:
                    self._uses[report.nodeid] = _unpacked(str(value))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the lock, or hold the tests to it."""
        if self._lock is None or self._is_worker:
            return
        from costtrace.testing.cost_lock import grown, read_lock, write_lock

        locked = read_lock(self._lock) if Path(self._lock).exists() else {}
        if self._is_update:
            passed = {test: use for test, use in self._uses.items() if test in self._passed}
            kept = {test: use for test, use in locked.items() if test not in self._passed}
            write_lock(self._lock, {**kept, **passed})
            return
        self._problems = grown(locked, self._uses, self._tolerance)
        if self._problems and session.exitstatus in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the dearest tests, and what the lock has against them."""
        if self._is_summary:
            terminalreporter.section("cost of LLM calls")
            terminalreporter.write_line(_summary(self._uses))
        if self._problems:
            terminalreporter.section(f"more tokens than in {self._lock}")
            for problem in self._problems:
                terminalreporter.write_line(problem)
            terminalreporter.write_line(
                "If that is meant, update the file with --cost-lock-update and commit it."
            )
        elif self._is_update and not self._is_worker:
            terminalreporter.write_line(f"wrote {self._lock}")


class _Heard(logging.Handler):
    """The entries of all ledgers while it listens; a corrected one counts as it is at last."""

    def __init__(self) -> None:
        from costtrace.instrumentation import instrument
        from costtrace.instrumentation.presence import Presence

        super().__init__()
        self._records: dict[str, logging.LogRecord] = {}
        self._logger = logging.getLogger("costtrace.usage")
        self._usual_level = self._logger.level
        self._logger.addHandler(self)
        self._logger.setLevel(logging.INFO)
        self._was_instrumented = Presence.sees_unscoped  # by the application, which then ends it
        instrument()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record of an entry."""
        call_id = getattr(record, "call_id", None)
        if call_id is not None and not getattr(record, "adjusts", None):
            self._records[call_id] = record

    def stop(self) -> TestUse:
        """Listen no more; return what was heard."""
        from costtrace.instrumentation import uninstrument

        if not self._was_instrumented:
            uninstrument()
        self._logger.removeHandler(self)
        self._logger.setLevel(self._usual_level)
        return self.use()

    def use(self) -> TestUse:
        """Return what was used by now."""
        from costtrace.testing.cost_lock import TestUse

        facts = [vars(record) for record in list(self._records.values())]
        costs = [fact["cost_usd"] for fact in facts]
        return TestUse(
            calls=len(facts),
            input_tokens=sum(fact["input_tokens"] for fact in facts),
            output_tokens=sum(fact["output_tokens"] for fact in facts),
            models=tuple(sorted({fact["model"] for fact in facts})),
            cost_usd=None if None in costs else sum(costs, Decimal(0)),
        )


def _limits(mark: pytest.Mark | None) -> dict[str, Decimal]:
    """Return the limits that a mark states, checked."""
    from costtrace.money import to_pico, to_usd

    __tracebackhide__ = True  # what is wrong is in the test's own file
    if mark is None:
        return {}
    if mark.args or not mark.kwargs or set(mark.kwargs) - set(LIMITS):
        raise pytest.UsageError(
            f"@pytest.mark.{MARK} takes {', '.join(f'{one}=' for one in LIMITS)}, "
            f"not {(*mark.args, *mark.kwargs)!r}"
        )
    try:
        return {name: to_usd(to_pico(value, name)) for name, value in mark.kwargs.items()}
    except (TypeError, ValueError) as problem:
        raise pytest.UsageError(f"@pytest.mark.{MARK}: {problem}") from None


def _passed_limits(use: TestUse, limits: dict[str, Decimal]) -> Iterator[str]:
    from costtrace.money import format_usd
    from costtrace.reports.section import counted

    usd, cost = limits.get("usd"), use.cost_usd
    if usd is not None and cost is None:
        yield f"the cost of the test is not known: no price for one of {', '.join(use.models)}"
    elif usd is not None and cost is not None and cost > usd:
        yield f"the calls of the test cost {format_usd(cost)}, its limit is {format_usd(usd)}"
    for name, one, found in (("tokens", "token", use.tokens), ("calls", "call", use.calls)):
        if name in limits and found > limits[name]:
            yield f"the test took {counted(found, one, name)}, its limit is {int(limits[name]):,}"


def _packed(use: TestUse) -> str:
    """Return it as text: a report may come from another process, and go into a JUnit file."""
    cost = None if use.cost_usd is None else str(use.cost_usd)
    return json.dumps([use.calls, use.input_tokens, use.output_tokens, list(use.models), cost])


def _unpacked(text: str) -> TestUse:
    from costtrace.testing.cost_lock import TestUse

    calls, sent, generated, models, cost = json.loads(text)
    return TestUse(calls, sent, generated, tuple(models), None if cost is None else Decimal(cost))


def _summary(uses: dict[str, TestUse]) -> str:
    from costtrace.reports import Column, table

    if not uses:
        return "no test made an LLM call"
    dearest = sorted(uses.items(), key=lambda one: (-(one[1].cost_usd or 0), one[0]))
    rows = [_cells(test, use) for test, use in dearest[:SHOWN]]
    if len(dearest) > SHOWN:
        rows.append((f"... {len(dearest) - SHOWN} more", "", "", ""))
    numbers = (Column(name, is_number=True) for name in ("Calls", "Tokens", "Cost"))
    return table(rows, [Column("Test", can_shrink=True), *numbers], total=_total(uses))


def _total(uses: dict[str, TestUse]) -> tuple[str, ...]:
    from costtrace.money import format_usd

    calls = sum(use.calls for use in uses.values())
    tokens = sum(use.tokens for use in uses.values())
    known = sum((use.cost_usd or Decimal(0) for use in uses.values()), Decimal(0))
    return ("Total", f"{calls:,}", f"{tokens:,}", format_usd(known))


def _cells(test: str, use: TestUse) -> tuple[str, ...]:
    from costtrace.money import format_usd

    cost = "unpriced" if use.cost_usd is None else format_usd(use.cost_usd)
    return (test, f"{use.calls:,}", f"{use.tokens:,}", cost)
