"""A scope taken where no hook reaches: bound to a callable, or signed and sent to a process."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import queue
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import handed_work
import pytest
from patched import sdk_methods

import costtrace
from costtrace import (
    BudgetExceededError,
    CostLedger,
    HandoffError,
    active,
    budget,
    carry,
    headers,
    resume,
    tracked,
)
from costtrace.testing import LoopbackProvider

SECRET = "known to both"
HEADER = "Costtrace-Scope"


@pytest.fixture
def ask(openai_client: Any) -> Any:
    """Make one paid call."""
    return partial(
        openai_client.chat.completions.create,
        model="gpt-4o-mini",
        max_tokens=20,
        messages=[{"role": "user", "content": "hi"}],
    )


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, provider: LoopbackProvider) -> None:
    """What worker processes find in their environment."""
    monkeypatch.setenv("COSTTRACE_SECRET", SECRET)
    for name, value in provider.environ().items():
        monkeypatch.setenv(name, value)


@tracked(function_name="enqueue", tags={"team": "web", "host": "front"})
def enqueue(**options: Any) -> dict[str, str]:
    return headers(**options)


def sent_by(user: str, **options: Any) -> dict[str, str]:
    """Return the headers that this user's request sends along."""
    with budget(user, 5, tags={"plan": "pro"}):
        return enqueue(**options)


def run_worker(*arguments: Any) -> str:
    """Do the work in a process that has nothing of this one but its environment."""
    path, *rest = arguments
    done = subprocess.run(
        [sys.executable, handed_work.__file__, str(path), json.dumps(rest)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# another process


@pytest.mark.usefixtures("shared")
def test_a_worker_process_goes_on_in_the_senders_scope(tmp_path: Path):
    """User, path and tags are the sender's, below what is open in the worker."""
    path = tmp_path / "costs.db"
    assert run_worker(path, sent_by("alice")) == "done"

    with CostLedger(path=path) as ledger:
        (entry,) = ledger.entries
    assert (entry.user_id, entry.function_name) == ("alice", "summarize")
    assert entry.call_path == ("receive", "enqueue", "summarize")
    assert dict(entry.tags) == {"team": "web", "plan": "pro", "host": "front"}


@pytest.mark.usefixtures("shared")
def test_spawned_workers_serve_one_user_after_the_other(tmp_path: Path):
    """Processes of a pool that is started inside a scope: each message is its own user's."""
    path = tmp_path / "costs.db"
    users = [f"u{number % 4}" for number in range(12)]
    with budget("the pool's owner"):
        pool = multiprocessing.get_context("spawn").Pool(2)
    with pool:
        did = pool.starmap(handed_work.work, [(str(path), sent_by(user)) for user in users])

    assert did == ["done"] * 12
    with CostLedger(path=path) as ledger:
        assert {row.key: row.calls for row in ledger.totals("user_id")} == dict.fromkeys(users, 3)
        assert {entry.call_path for entry in ledger.entries} == {
            ("receive", "enqueue", "summarize")
        }
        assert ledger.verify() == []


@pytest.mark.usefixtures("shared")
def test_a_budget_is_opened_inside(tmp_path: Path, provider: LoopbackProvider):
    """Limits are not handed over: the worker opens its own, which refuses before sending."""
    path = tmp_path / "costs.db"
    assert run_worker(path, sent_by("alice"), "1") == "done"
    assert run_worker(path, sent_by("alice"), "0.000001").startswith("BudgetExceededError")

    assert len(provider.model_calls) == 1
    with CostLedger(path=path) as ledger:
        (entry,) = ledger.entries
    assert (entry.user_id, entry.call_path[1:]) == ("alice", ("enqueue", "summarize"))


def altered(sent: dict[str, str]) -> dict[str, str]:
    version, facts, signature = sent[HEADER].split(".")
    middle = len(facts) // 2
    other = "A" if facts[middle] != "A" else "B"
    return {HEADER: f"{version}.{facts[:middle]}{other}{facts[middle + 1 :]}.{signature}"}


REFUSED = {
    "altered": (lambda: altered(sent_by("alice")), "altered"),
    "signed for another": (lambda: sent_by("alice", secret="another's"), "another secret"),
    "expired": (lambda: sent_by("alice", lifetime=timedelta(0)), "expired"),
    "not sent": (dict, "sent along"),
    "none of ours": (lambda: {HEADER: "alice"}, "no scope"),
}


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(("sent", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trusted_is_refused(
    sent: Callable[[], dict[str, str]], why: str, ask: Any, provider: LoopbackProvider
):
    """Nothing is opened, so nothing of the block runs, and no user is charged."""
    headers = sent()
    with pytest.raises(HandoffError, match=why), resume(headers):
        ask()
    assert provider.requests == []
    assert not active()


@pytest.mark.usefixtures("shared")
def test_a_worker_process_refuses_too(tmp_path: Path, provider: LoopbackProvider):
    """With the secret of its own environment, before it sends anything."""
    sent = altered(sent_by("alice"))
    assert run_worker(tmp_path / "costs.db", sent).startswith("HandoffError: the handed-over scope")
    assert provider.requests == []


def test_without_a_secret_nothing_is_handed_over(monkeypatch: pytest.MonkeyPatch):
    """Neither side goes on unsigned; the error says where the secret belongs."""
    monkeypatch.delenv("COSTTRACE_SECRET", raising=False)
    with pytest.raises(ValueError, match="COSTTRACE_SECRET"):
        sent_by("alice")
    sent = sent_by("alice", secret=SECRET)
    with pytest.raises(ValueError, match="COSTTRACE_SECRET"), resume(sent):
        pass
    with resume(sent, secret=SECRET.encode()):
        assert active()
    assert not active()


def test_each_character_counts():
    """Whatever single character is changed, the text is refused or means the same."""
    sent = sent_by("alice", secret=SECRET)[HEADER]
    for place, character in enumerate(sent):
        other = sent[:place] + ("x" if character != "x" else "y") + sent[place + 1 :]
        with pytest.raises(HandoffError), resume({HEADER: other}, secret=SECRET):
            pass


def test_budgets_around_hold_and_who_is_not_named_stays(ask: Any, ledger: CostLedger):
    """A sender outside any budget does not turn the receiver's user into nobody."""
    named = sent_by("alice", secret=SECRET)
    nameless = enqueue(secret=SECRET)
    with budget("team", 5, ledger=ledger) as team:
        with resume(named, secret=SECRET):
            ask()
        with resume(nameless, secret=SECRET):
            ask()
        assert team.spent_usd == ledger.total_cost > 0
        with (
            resume(named, secret=SECRET),
            budget("alice", 0),
            pytest.raises(BudgetExceededError),
        ):
            ask()
    assert [entry.user_id for entry in ledger.entries] == ["alice", "team"]
    assert [entry.call_path for entry in ledger.entries] == [("enqueue",)] * 2


def test_a_stream_is_entered_when_the_resumed_scope_is_left(ask: Any, ledger: CostLedger):
    """As in every scope; reading the rest makes it exact."""
    with budget("worker", ledger=ledger):
        with resume(sent_by("alice", secret=SECRET), secret=SECRET):
            stream = ask(stream=True)
            next(stream)
        (entry,) = ledger.entries
        assert (entry.user_id, entry.status) == ("alice", "partial")
        list(stream)
    (entry,) = ledger.entries
    assert (entry.user_id, entry.status) == ("alice", "ok")


# a callable


@contextmanager
def outside() -> Iterator[Callable[[Any], Any]]:
    """A worker that no hook reaches: its thread is older than any scope, its queue anybody's."""
    items: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def serve() -> None:
        while (item := items.get()) is not None:
            function, done = item
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)

    def give(function: Any) -> Any:
        done: Future[Any] = Future()
        items.put((function, done))
        return done.result(30)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield give
    finally:
        items.put(None)
        thread.join()


def calls_of(ledger: CostLedger) -> list[tuple[str, tuple[str, ...]]]:
    return [(entry.user_id, entry.call_path) for entry in ledger.entries]


def test_carried_calls_are_their_users(ask: Any, ledger: CostLedger):
    """Also after the scope was left, again and again, and the worker is clean in between."""
    with outside() as worker, costtrace.budget("nobody's", ledger=ledger):
        carried = []
        for user in ("alice", "bob"):

            @tracked(function_name=f"of {user}")
            def take() -> None:
                carried.append(carry(ask))

            with budget(user):
                take()
        for function in (*carried, ask, *carried):
            worker(function)
    both = [("alice", ("of alice",)), ("bob", ("of bob",))]
    assert calls_of(ledger) == [*both, *both]  # nobody's call by the worker itself


def test_carried_budgets_hold(ask: Any, ledger: CostLedger, provider: LoopbackProvider):
    """Where the budget's `with` was left long ago, its limit still refuses."""
    with budget("alice", 0, ledger=ledger):
        carried = carry(ask)
    with outside() as worker, pytest.raises(BudgetExceededError):
        worker(carried)
    assert provider.requests == []
    assert not active()


def test_carried_coroutines_and_generators(provider: LoopbackProvider, ledger: CostLedger):
    """On a loop that knows nothing of the scope, for each step and each await."""

    async def use(kinds: list[Any]) -> None:
        async with provider.async_openai(max_retries=0) as client:
            embed = partial(client.embeddings.create, model="text-embedding-3-small", input="hi")
            await kinds[0](embed)
            async for _ in kinds[1](embed):
                await embed()

    async def once(embed: Any) -> None:
        await embed()

    async def twice(embed: Any) -> AsyncIterator[int]:
        for number in range(2):
            await embed()
            yield number

    with budget("alice", ledger=ledger):
        carried = [carry(once), carry(twice)]
    with outside() as worker, budget("bob", ledger=ledger):
        worker(lambda: asyncio.run(use(carried)))
    assert calls_of(ledger) == [("alice", ())] * 3


# work that outlives its scope


def is_patched(before: dict[Any, Any]) -> bool:
    """Tell whether all the SDKs' methods were replaced; else none of them must be."""
    same = {method is before[place] for place, method in sdk_methods().items()}
    assert len(same) == 1
    return not same.pop()


def test_a_task_outlives_its_scope(provider: LoopbackProvider, ledger: CostLedger):
    """It is still counted, and the SDK is restored when it is done, and not before."""
    before = sdk_methods()

    async def main() -> None:
        async with provider.async_openai(max_retries=0) as client:
            go_on = asyncio.Event()

            @tracked(function_name="later")
            async def later() -> None:
                await go_on.wait()
                await client.embeddings.create(model="text-embedding-3-small", input="hi")

            with budget("alice", 1, ledger=ledger):
                task = asyncio.create_task(later())
                await asyncio.sleep(0)
            assert active()
            assert is_patched(before)
            go_on.set()
            await task
            assert not active()
            assert not is_patched(before)

    asyncio.run(main())
    assert calls_of(ledger) == [("alice", ("later",))]


def test_a_queued_item_outlives_its_scope(ask: Any, ledger: CostLedger):
    """An executor runs it when the scope was left long ago."""
    before, go_on = sdk_methods(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(go_on.wait, 30)
        with budget("alice", 1, ledger=ledger):
            queued = pool.submit(ask)
        was_open = active(), is_patched(before)
        go_on.set()
        queued.result(30)
    assert was_open == (True, True)
    assert not active()
    assert not is_patched(before)
    assert calls_of(ledger) == [("alice", ())]


def test_a_cancelled_item_lets_go(ask: Any, ledger: CostLedger):
    """What is cancelled before it ran keeps nothing open."""
    go_on = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(go_on.wait, 30)
        with budget("alice", 1, ledger=ledger):
            assert pool.submit(ask).cancel()
        go_on.set()
    assert not active()
    assert calls_of(ledger) == []
