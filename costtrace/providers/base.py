"""What a provider file states: which calls are billed, and where their usage is written.

A provider knows its wire format and nothing else: it never prices, stores or patches. What it
reads comes from a server, through models that the SDKs build without validation, so every field may
be missing, null or of the wrong type; nothing here may raise for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

from costtrace.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A billable call about to be sent, in the common words. `body` is read and never kept."""

    provider: str
    operation: str
    model: str
    body: Mapping[str, Any] = field(repr=False)
    is_stream: bool = False
    output_cap: int | None = None
    """Tokens that each choice may generate; None when the body leaves it to the model."""
    choices: int = 1
    tier: str = "standard"
    region: str = ""
    host: str = ""
    tool_uses: Mapping[str, int | None] = field(default_factory=dict)
    """Usage field of each hosted tool with a fee, and its most uses; None when unbounded."""
    cache_lifetimes: tuple[str, ...] | None = None
    """The cache writes that it may cause, by lifetime; None for any."""
    has_hosted_tools: bool = False
    """Whether the provider may put more into the prompt than was sent (search results, files)."""


@dataclass(frozen=True, slots=True)
class Part:
    """Work inside a call that was done, and is billed, at another model's price."""

    model: str
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an answer says about itself."""

    model: str | None = None
    usage: Usage | None = None
    """None when the answer does not say; zero counts are a statement."""
    tier: str | None = None
    region: str = ""
    response_id: str | None = None
    is_complete: bool = True
    """Whether the answer ended as the protocol says it ends."""
    is_pending: bool = False
    """Whether the work goes on in the background and its usage comes later."""
    parts: tuple[Part, ...] = ()
    gateway_cost: Decimal | None = None
    text: str = field(default="", repr=False)
    """What was generated, for counting it where no usage came; never kept."""


class StreamReader(Protocol):
    """Follows one stream, event by event."""

    def see(self, event: object) -> bool:
        """Take note of an event; return whether it is one that the caller did not ask for."""

    def reading(self) -> Reading:
        """Return what the stream has said so far."""


class Provider(Protocol):
    """One SDK and the wire format behind it."""

    name: str
    module: str
    """The module whose `SyncAPIClient` and `AsyncAPIClient` every call passes through."""

    def request(
        self, path: str, body: Mapping[str, Any], *, host: str = ""
    ) -> Request | Literal["free", "uncovered"]:
        """Say what a POST to `path` is; `path` has no query and no host."""

    def read(self, request: Request, response: object) -> Reading:
        """Read a whole answer."""

    def reader(self, request: Request, *, hide_usage: bool) -> StreamReader:
        """Follow a streamed answer; `hide_usage` marks the chunk that was asked for by us."""

    def capped(self, request: Request, tokens: int) -> dict[str, Any]:
        """Return what to set in the body so that no choice generates more than `tokens`."""

    def usage_option(self, request: Request) -> dict[str, Any] | None:
        """Return what to set in the body so that a stream reports its usage; None: nothing."""


def get(thing: object, *names: str) -> Any:
    """Follow `names` through attributes and mapping keys; None where the way ends."""
    for name in names:
        thing = thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)
        if thing is None:
            return None
    return thing


def count(thing: object, *names: str) -> int:
    """Follow `names` to a count: an int >= 0, whatever was found there."""
    return as_count(get(thing, *names))


def as_count(value: object) -> int:
    """Return a count of what a server sent in its place; 0 for what is none."""
    if type(value) is int:
        return value if value > 0 else 0
    if isinstance(value, (float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            return 0
        return round(number) if 0 < number < 2**53 else 0
    return 0


def text_of(value: object) -> str | None:
    """Return a non-empty text as it is, anything else as None."""
    return value if isinstance(value, str) and value else None


def items(value: object) -> list[Any]:
    """Return a list of what should have been one."""
    return list(value) if isinstance(value, (list, tuple)) else []


def given(body: Mapping[str, Any], name: str) -> Any:
    """Return a body's value; None where it is unset, also by an SDK's sentinel."""
    value = body.get(name)
    return None if type(value).__name__ in ("Omit", "NotGiven") else value


def cap_of(body: Mapping[str, Any], *names: str) -> int | None:
    """Return the largest of the output caps that a body names; None without one."""
    caps = [cap for name in names if type(cap := given(body, name)) is int and cap >= 0]
    return max(caps) if caps else None
