"""What budgets cost: `python -m tests.benchmarks.budgets` prints the least of many measurements.

Aims: authorizing far from the limit 20 us for a short prompt and 50 us for one of 100 kB; the exact
count of the next turn of a conversation of 200 turns 1 ms; a budget opened and left 15 us.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from costtrace import CostLedger, budget
from costtrace.instrumentation.authorize import authorize
from costtrace.instrumentation.call import Call
from costtrace.instrumentation.outgoing import Outgoing
from costtrace.providers.openai import OpenAI
from costtrace.scopes import current
from costtrace.tokens import exact
from tests.benchmarks.measuring import Goal, show

PATH = "/chat/completions"


def least_us(function: Callable[[], object], number: int = 3_000) -> float:
    """The least time of one call, in microseconds."""
    return min(timeit.repeat(function, number=number, repeat=9)) / number * 1e6


def body_of(text: str, **more: Any) -> dict[str, Any]:
    """A request with one message."""
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **more}


def authorize_us(ledger: CostLedger, body: dict[str, Any], rounds: int = 4_000) -> float:
    """The median time from a call that is known until it may be sent."""
    request = OpenAI().request(PATH, body, host="api.openai.com")
    options = SimpleNamespace(json_data=body, extra_json=None, headers={}, max_retries=2)
    times = []
    with budget("alice", 10**6, ledger=ledger):
        for _ in range(rounds):
            call = Call(OpenAI(), request, current())  # type: ignore[arg-type]
            outgoing = Outgoing(None, (), {}, options, "post", PATH, body, "", "", "", 2)
            start_ns = time.perf_counter_ns()
            authorize(call, outgoing)
            times.append(time.perf_counter_ns() - start_ns)
            call.charges.release(call.call_id)
    return sorted(times)[rounds // 2] / 1_000


def next_turn_us(turns: int = 200) -> float:
    """The time for the exact count of a conversation that has grown by one turn."""
    messages = [
        {"role": ("user", "assistant")[n % 2], "content": f"Turn {n}: {'some words ' * 40}"}
        for n in range(turns)
    ]
    body = {"model": "gpt-4o-mini", "messages": messages}
    exact(body, "chat", "openai", "gpt-4o-mini")
    times = []
    for n in range(50):
        messages.append({"role": "user", "content": f"And now, {n}? {'more words ' * 40}"})
        start_ns = time.perf_counter_ns()
        exact(body, "chat", "openai", "gpt-4o-mini")
        times.append(time.perf_counter_ns() - start_ns)
        messages.pop()
    return sorted(times)[25] / 1_000


def main() -> None:
    """Print the table."""
    ledger = CostLedger()
    for name, text, most in (
        ("60 bytes", "x" * 60, 20),
        ("100 kB", "x" * 10**5, 50),
        ("100 kB ä", "ä" * 50_000, 50),
    ):
        goal, capped = Goal(most), body_of(text, max_tokens=300)
        show(f"authorize, {name}, capped", authorize_us(ledger, capped), "us", goal)
        show(f"authorize, {name}, without a cap", authorize_us(ledger, body_of(text)), "us", goal)
    show("exact count, the next of 200 turns", next_turn_us(), "us", Goal(1000))
    with budget("outer", ledger=ledger):  # the SDKs stay patched

        def opened(**options: Any) -> Callable[[], None]:
            def step() -> None:
                with budget("alice", 10, ledger=ledger, **options):
                    pass

            return step

        show("a budget made, entered and left", least_us(opened()), "us", Goal(15))
        show("   by the month", least_us(opened(window="month")), "us")
        show("   a block", least_us(opened(window="block")), "us")
        b = budget("alice", 10, ledger=ledger)
        by_hand = least_us(lambda: b.authorize("0.000001").release())
        show("by hand: authorize and release", by_hand, "us")


if __name__ == "__main__":
    main()
