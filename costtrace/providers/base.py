"""What a provider file states: which calls are billed, and where their usage is written.

A provider knows its wire format and nothing else: it never prices, stores or patches. What it
reads comes from a server, through models that the SDKs build without validation, so every field may
be missing, null or of the wrong type; nothing here may raise for that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

from costtrace.records import quickly_made
from costtrace.usage import Usage


@quickly_made()
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
    api_version: str = ""
    """Of hosts that have versions of their API (Azure), as the request names it."""
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
    response_id: str | None = None
    """Of an answer of its own, which was rejected for another."""


@quickly_made()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """A request that is billed nothing, but whose answer tells what earlier work used."""

    provider: str
    operation: str
    """Of the work that was begun earlier; a batch's lines tell it themselves."""
    key: str
    """The id of the response, run, batch or file that is asked for."""
    is_batch: bool = False
    is_continued: bool = False
    """Whether it lets the earlier work go on: where that is not known, it is a call of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLine:
    """One answered line of a batch: a call of its own."""

    line_id: str
    """The same whenever and wherever the line is read."""
    operation: str
    reading: Reading


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
        self, path: str, body: Mapping[str, Any], *, host: str = "", api_version: str = ""
    ) -> Request | Literal["free", "uncovered"]:
        """Say what a POST to `path` is; `path` has no query and no host."""

    def retrieval(self, method: str, path: str) -> Retrieval | None:
        """Say whose usage the answer of this request may tell, if any."""

    def batch_lines(self, retrieval: Retrieval, answer: object) -> Iterator[BatchLine]:
        """Yield the lines of a batch that a retrieval has brought, or of one item of it."""

    def read(self, request: Request, response: object) -> Reading:
        """Read a whole answer."""

    def reader(self, request: Request, *, hide_usage: bool) -> StreamReader:
        """Follow a streamed answer; `hide_usage` marks the chunk that was asked for by us."""

    def capped(self, request: Request, tokens: int) -> dict[str, Any]:
        """Return what to set in the body so that no choice generates more than `tokens`."""

    def usage_option(self, request: Request) -> dict[str, Any] | None:
        """Return what to set in the body so that a stream reports its usage; None: nothing."""


MOST_TOKENS = 2**31
"""More than any call can use; what claims more is no count."""
MOST_UNITS = 2**20
"""The same for seconds, searches and whatever else is dearer than a token."""
LONGEST_NAME = 300


def get(thing: object, *names: str) -> Any:
    """Follow `names` through attributes and mapping keys; None where the way ends."""
    for name in names:
        thing = thing.get(name) if isinstance(thing, dict) else _attribute(thing, name)
        if thing is None:
            return None
    return thing


def _attribute(thing: object, name: str) -> Any:
    """Return an attribute; what a model has not got is found out without its slow way to say so."""
    fields = getattr(thing, "__dict__", None)
    if type(fields) is dict and name in fields:
        return fields[name]
    extra = getattr(thing, "__pydantic_extra__", None)
    return extra.get(name) if type(extra) is dict else getattr(thing, name, None)


def fields_of(thing: object) -> dict[str, Any]:
    """Return the declared fields of a model, or the items of a mapping: quicker than `get`.

    For what is read of every event of a stream; what an SDK's older models do not declare is not
    among them.
    """
    if type(thing) is dict:
        return thing
    found = getattr(thing, "__dict__", None)
    return found if type(found) is dict else {}


def all_fields_of(thing: object) -> dict[str, Any]:
    """Return the fields of a model, undeclared ones included: for several that may not be there."""
    if type(thing) is dict:
        return thing
    found = getattr(thing, "__dict__", None)
    if type(found) is not dict:
        return {}
    extra = getattr(thing, "__pydantic_extra__", None)
    return {**found, **extra} if extra else found


def count(thing: object, *names: str) -> int:
    """Follow `names` to a count: an int >= 0, whatever was found there."""
    return as_count(get(thing, *names))


def as_count(value: object) -> int:
    """Return a count of what a server sent in its place; 0 for what is none."""
    if type(value) is int:
        return value if 0 <= value < MOST_TOKENS else 0
    return number(value) or 0


def as_units(value: object) -> int:
    """Return a count of something that is billed by the piece or the second."""
    found = number(value) or 0
    return found if found < MOST_UNITS else 0


def number(value: object) -> int | None:
    """Return a count, an int >= 0, of what a server sent in its place; None for what is none."""
    if type(value) is int:
        return value if 0 <= value < MOST_TOKENS else None
    if isinstance(value, (float, str)):
        try:
            amount = float(value)
        except ValueError:
            return None
        return round(amount) if 0 <= amount < MOST_TOKENS else None
    return None


def text_of(value: object) -> str | None:
    """Return a non-empty text as it is, anything else as None."""
    return value if isinstance(value, str) and value else None


def name_of(value: object) -> str | None:
    """Return the name or id of something as it is; None for what no store could keep."""
    if type(value) is str or isinstance(value, str):
        return value if 0 < len(value) <= LONGEST_NAME and value.isprintable() else None
    return None


def items(value: object) -> list[Any]:
    """Return a list of what should have been one."""
    return list(value) if isinstance(value, (list, tuple)) else []


def parsed(text: str | bytes) -> Any:
    """Return what a text says in JSON; None for what is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def given(body: Mapping[str, Any], name: str) -> Any:
    """Return a body's value; None where it is unset, also by an SDK's sentinel."""
    value = body.get(name)
    if value is None or type(value) in _PLAIN:
        return value
    return None if type(value).__name__ in ("Omit", "NotGiven") else value


_PLAIN = frozenset((str, int, bool, float, list, dict))


def cap_of(body: Mapping[str, Any], *names: str) -> int | None:
    """Return the largest of the output caps that a body names; None without one."""
    most: int | None = None
    for name in names:
        cap = body.get(name)
        if type(cap) is int and cap >= 0 and (most is None or cap > most):
            most = cap
    return most
