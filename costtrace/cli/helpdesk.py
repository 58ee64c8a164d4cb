"""The application of `costtrace demo`: a help desk that answers its users with both SDKs.

It is written as any application is. What makes it one that knows its costs are `@tracked`, which
says what a call is for, and `budget`, which says who pays: nothing else here is about costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from costtrace.accounting import CostLedger
from costtrace.api import budget, tracked

LIMITS = {"alice": Decimal(5), "bob": Decimal(5), "carol": Decimal("0.025")}
"""US dollars for each month."""
TICKET = "I was charged twice for October. Can I get one of the payments back?"
THREAD = f"{TICKET}\nSupport: We have found the second payment and are looking into it."
QUESTIONS = (
    "Write a letter to my landlord about the heating.",
    "Make it longer and add a deadline.",
    "Now the same for the broken window.",
    "And one for the noise at night.",
    "One more, about the parking space.",
    "The last one, about the deposit.",
)
RULES = "You work for a help desk. Answer in at most three sentences, friendly and to the point."


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of both SDKs; the asynchronous ones are made in their event loop."""

    openai: Any
    anthropic: Any
    make_async_openai: Any
    make_async_anthropic: Any


class HelpDesk:
    """What the help desk does in a day. A provider without a client has no work in it."""

    def __init__(self, clients: Clients, ledger: CostLedger) -> None:
        self._clients = clients
        self._ledger = ledger

    def answer_tickets(self) -> None:
        """Answer the tickets of two users, with plain calls and with streamed ones."""
        with budget("alice", LIMITS["alice"], window="month", ledger=self._ledger):
            if self._clients.openai:
                self.classify()
            if self._clients.anthropic:
                self.answer()
        with budget("bob", LIMITS["bob"], window="month", ledger=self._ledger):
            if self._clients.anthropic:
                "".join(self.explain())
            if self._clients.openai:
                "".join(self.draft())

    async def close_the_day(self) -> None:
        """Write up both users' threads at the same time."""
        await asyncio.gather(self._write_up("alice"), self._write_up("bob"))

    def ask(self, question: str) -> None:
        """Carol asks for something, on her small budget."""
        with budget("carol", LIMITS["carol"], window="month", ledger=self._ledger):
            self.chat(question)

    async def _write_up(self, user_id: str) -> None:
        async with budget(user_id, LIMITS[user_id], window="month", ledger=self._ledger):
            if user_id == "alice" and self._clients.openai:
                await self.summarise()
            elif user_id == "bob" and self._clients.anthropic:
                await self.translate()

    @tracked(function_name="classify")
    def classify(self) -> str:
        """A plain call of OpenAI's chat."""
        answer = self._clients.openai.chat.completions.create(**REQUESTS["classify"].body)
        return str(answer.choices[0].message.content)

    @tracked(function_name="answer")
    def answer(self) -> str:
        """A plain call of Anthropic's messages, after a search."""
        if self._clients.openai:
            self.search()
        answer = self._clients.anthropic.messages.create(**REQUESTS["answer"].body)
        return str(answer.content[0].text)

    @tracked(function_name="search")
    def search(self) -> list[float]:
        """Embeddings, for looking something up."""
        found = self._clients.openai.embeddings.create(**REQUESTS["search"].body)
        return list(found.data[0].embedding)

    @tracked(function_name="explain")
    def explain(self) -> Iterator[str]:
        """A streamed call of Anthropic's messages."""
        with self._clients.anthropic.messages.stream(**REQUESTS["explain"].body) as stream:
            yield from stream.text_stream

    @tracked(function_name="draft")
    def draft(self) -> Iterator[str]:
        """A streamed call of OpenAI's chat."""
        request = REQUESTS["draft"].body
        for chunk in self._clients.openai.chat.completions.create(stream=True, **request):
            for choice in chunk.choices:
                yield choice.delta.content or ""

    @tracked(function_name="summarise")
    async def summarise(self) -> str:
        """A streamed call of OpenAI's asynchronous client."""
        request = REQUESTS["summarise"].body
        async with _closing(self._clients.make_async_openai()) as client:
            stream = await client.chat.completions.create(stream=True, **request)
            parts = [c.delta.content or "" async for chunk in stream for c in chunk.choices]
        return "".join(parts)

    @tracked(function_name="translate")
    async def translate(self) -> str:
        """A plain call of Anthropic's asynchronous client."""
        async with _closing(self._clients.make_async_anthropic()) as client:
            answer = await client.messages.create(**REQUESTS["translate"].body)
        return str(answer.content[0].text)

    @tracked(function_name="chat")
    def chat(self, question: str) -> None:
        """Whatever a user asks, with the dearest model at hand."""
        if self._clients.anthropic:
            self._clients.anthropic.messages.create(**anthropic_chat(question).body)
        else:
            self._clients.openai.chat.completions.create(**openai_chat(question).body)


@asynccontextmanager
async def _closing(client: Any) -> AsyncIterator[Any]:
    """Close a client in the event loop that it was used in."""
    try:
        yield client
    finally:
        await client.close()


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A request as the application sends it."""

    provider: str
    path: str
    body: dict[str, Any]


def openai_chat(text: str, model: str = "gpt-5.4", max_tokens: int = 400) -> PlannedRequest:
    """Return a request to OpenAI's chat."""
    said = [{"role": "system", "content": RULES}, {"role": "user", "content": text}]
    body = {"model": model, "max_completion_tokens": max_tokens, "messages": said}
    return PlannedRequest("openai", "/chat/completions", body)


def anthropic_chat(
    text: str, model: str = "claude-sonnet-4-6", max_tokens: int = 400
) -> PlannedRequest:
    """Return a request to Anthropic's messages."""
    said = [{"role": "user", "content": text}]
    body = {"model": model, "max_tokens": max_tokens, "system": RULES, "messages": said}
    return PlannedRequest("anthropic", "/v1/messages", body)


REQUESTS = {
    "classify": openai_chat(f"One word: what is this about? {TICKET}", "gpt-4o-mini", 5),
    "answer": anthropic_chat(TICKET, "claude-haiku-4-5", 200),
    "search": PlannedRequest(
        "openai", "/embeddings", {"model": "text-embedding-3-small", "input": TICKET}
    ),
    "explain": anthropic_chat(f"What happens next? {TICKET}", "claude-sonnet-4-6", 200),
    "draft": openai_chat(f"Draft an answer. {TICKET}", "gpt-5.4-mini", 200),
    "summarise": openai_chat(f"Summarise. {THREAD}", "gpt-4o-mini", 200),
    "translate": anthropic_chat(f"In French, please. {THREAD}", "claude-haiku-4-5", 200),
}
"""Function -> what it sends."""
