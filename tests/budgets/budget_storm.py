"""A storm: many calls of all kinds at once, and how each of them may go wrong.

A call's fate stands in the first word of its prompt, where the provider's script reads it. The rest
of a prompt is hexadecimal digits, of which no tokenizer puts four into one token: the loopback
provider, which bills a token for four bytes, then never bills more than an honest one would.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

from costtrace import Budget, BudgetExceededError, CostLedger, PriceTable
from costtrace.money import to_usd
from costtrace.pricing import cost
from costtrace.testing import LoopbackProvider, Reply
from costtrace.testing.log import LoggedRequest, Received

FATES = ("fine", "fine", "fine", "fine", "429", "500", "cut", "cut_stream", "late", "left")
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CLAUDE_TOOL = {
    "name": "weather",
    "description": "Tell the weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
KINDS = (
    "capped",
    "uncapped",
    "streamed",
    "several",
    "tools",
    "responses",
    "claude",
    "claude_stream",
)
GATE_AFTER = 6
PATIENCE_S = 0.2  # of clients that wait for a late answer; all others wait for a busy machine


def script(received: Received) -> Reply:
    """Answer as the prompt's first word asks; the length varies with the prompt."""
    words = str(received.body.get("messages") or received.body.get("input"))
    output = 5 + len(words) % 60
    if "429" in words:
        return Reply(status=429, headers={"retry-after-ms": "1"})
    if "500" in words:
        return Reply(status=500, headers={"retry-after-ms": "1"})
    if "cut_stream" in words:
        return Reply(output_tokens=output, cut_after_chunks=3)
    if "cut" in words:
        return Reply(output_tokens=output, cut_before_headers=True)
    if "late" in words:
        return Reply(output_tokens=output, latency_s=2 * PATIENCE_S)
    if "left" in words:  # no more is made than what the client reads before it leaves
        never = threading.Event()
        return Reply(output_tokens=output, gate=never, gate_after_chunks=GATE_AFTER)
    return Reply(output_tokens=output)


def plan(seed: int, count: int) -> list[tuple[str, str, str]]:
    """Return the kind, the fate and the prompt of each call."""
    chance = random.Random(seed)
    calls = []
    for n in range(count):
        kind, fate = KINDS[n % len(KINDS)], chance.choice(FATES)
        if fate == "left" and kind not in ("streamed", "claude_stream"):
            fate = "fine"
        digits = f"{chance.getrandbits(4 * chance.randrange(8, 400)):x}"
        calls.append((kind, fate, f"{fate} {digits}"))
    return calls


def options(kind: str, prompt: str) -> dict[str, Any]:
    """Return what the call of this kind passes to `create`."""
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]}
    if kind.startswith("claude"):
        asked |= {"model": "claude-haiku-4-5", "max_tokens": 80, "tools": [CLAUDE_TOOL]}
        return asked | ({"stream": True} if kind == "claude_stream" else {})
    if kind == "responses":
        return {"model": "gpt-4o-mini", "input": prompt, "max_output_tokens": 64}
    asked["model"] = "gpt-4o-mini"
    return (
        asked
        | {
            "capped": {"max_tokens": 50},
            "uncapped": {},
            "streamed": {"max_completion_tokens": 64, "stream": True},
            "several": {"max_tokens": 30, "n": 3},
            "tools": {"max_tokens": 40, "tools": [TOOL]},
        }[kind]
    )


def patience(fate: str) -> dict[str, Any]:
    """Return how long the call waits for its answer."""
    return {"timeout": PATIENCE_S} if fate == "late" else {}


def create(clients: Any, kind: str) -> Callable[..., Any]:
    """Return the method that makes a call of this kind."""
    if kind.startswith("claude"):
        return clients.anthropic.messages.create
    if kind == "responses":
        return clients.openai.responses.create
    return clients.openai.chat.completions.create


class Clients:
    """Both SDKs' clients, which try again twice."""

    def __init__(self, provider: Any, *, is_async: bool = False, max_retries: int = 2) -> None:
        prefix = "async_" if is_async else ""
        settings = {"timeout": 60, "max_retries": max_retries}
        self.openai = getattr(provider, f"{prefix}openai")(**settings)
        self.anthropic = getattr(provider, f"{prefix}anthropic")(**settings)


def send(clients: Clients, purse: Budget, kind: str, fate: str, prompt: str) -> str:
    """Make one call; return what became of it."""
    with purse:
        try:
            answer = create(clients, kind)(**options(kind, prompt), **patience(fate))
            if "stream" in kind or kind == "claude_stream":
                for n, _ in enumerate(answer):
                    if fate == "left" and n == 2:
                        answer.close()
                        break
        except BudgetExceededError:
            return "refused"
        except Exception as error:
            return type(error).__name__
    return "sent"


async def send_async(clients: Clients, purse: Budget, kind: str, fate: str, prompt: str) -> str:
    """The same on an event loop, where what is left is cancelled."""
    async with purse:
        try:
            answer = await create(clients, kind)(**options(kind, prompt), **patience(fate))
            if "stream" in kind or kind == "claude_stream":
                n = 0
                async for _ in answer:
                    n += 1
                    if fate == "left" and n == 3:
                        await answer.close()
                        break
        except BudgetExceededError:
            return "refused"
        except Exception as error:
            return type(error).__name__
    return "sent"


def in_threads(provider: Any, purse: Budget, calls: list[Any], threads: int = 16) -> list[str]:
    """Make all calls from threads."""
    clients = Clients(provider)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda call: send(clients, purse, *call), calls))


def in_tasks(provider: Any, purse: Budget, calls: list[Any]) -> list[str]:
    """Make all calls from tasks, and cancel some of them at any time."""

    async def one(clients: Clients, limit: asyncio.Semaphore, n: int, call: Any) -> str:
        async with limit:
            task = asyncio.ensure_future(send_async(clients, purse, *call))
            if n % 7 == 3:
                await asyncio.sleep(random.Random(n).random() * 0.05)
                task.cancel()
            with suppress(asyncio.CancelledError):
                return await task
            return "cancelled"

    async def main() -> list[str]:
        clients, limit = Clients(provider, is_async=True), asyncio.Semaphore(40)
        said = await asyncio.gather(*(one(clients, limit, n, c) for n, c in enumerate(calls)))
        await clients.openai.close()
        await clients.anthropic.close()
        return list(said)

    return asyncio.run(main())


def billed_usd(requests: list[LoggedRequest], prices: PriceTable) -> Decimal:
    """Return what the provider's log says that was billed, at list prices."""
    total = 0
    for request in requests:
        if request.billed is not None:
            price = prices.price(request.billed.model, provider=request.billed.provider)
            total += cost(request.billed.usage, price) or 0
    return to_usd(total)


@contextmanager
def watched(purse: Budget) -> Iterator[list[Decimal]]:
    """Look again and again, while the block runs, at what is spent and reserved together."""
    seen: list[Decimal] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.01):
            remaining, limit = purse._balance(), purse._terms.limit_pico or 0
            seen.append(to_usd(limit - remaining.spent_pico - remaining.reserved_pico))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def check(provider: LoopbackProvider, ledger: CostLedger, purse: Budget) -> None:
    """What must be true after any storm."""
    provider.wait_finished()
    assert purse.limit_usd is not None
    assert billed_usd(provider.requests, ledger.prices) <= purse.limit_usd
    assert billed_usd(provider.requests, ledger.prices) <= purse.spent_usd <= purse.limit_usd
    gc.collect()  # the SDK's dropped streams are reference cycles: they end when collected
    settled_by = time.monotonic() + 60  # a cancelled step of a store ends in its own thread
    while purse.reserved_usd and time.monotonic() < settled_by:
        time.sleep(0.01)
    assert purse.reserved_usd == 0
    assert ledger.verify() == []
    health = ledger.health()
    assert (health.overruns, health.waiting, health.internal_faults) == (0, 0, {})
