"""Which requests are ours to see: billable ones, and those that tell of earlier work."""

from __future__ import annotations

import warnings
from typing import Any

from costtrace.caller import stack_level
from costtrace.exceptions import InstrumentationWarning, UncoveredCallWarning
from costtrace.instrumentation.answer import AnswerHook
from costtrace.instrumentation.call import Call
from costtrace.instrumentation.faults import guard, swallowed
from costtrace.instrumentation.known import is_known, is_waiting
from costtrace.instrumentation.later import Findings, LaterHook
from costtrace.instrumentation.outgoing import Outgoing
from costtrace.providers import Provider, Request
from costtrace.scopes import Scope

_warned: set[tuple[str, str]] = set()


class Begun:
    """A call that is under way, and the arguments to send it with."""

    __slots__ = ("call", "hook", "outgoing")

    def __init__(self, call: Call, outgoing: Outgoing) -> None:
        self.call = call
        self.outgoing = outgoing
        self.hook = AnswerHook(call, outgoing)

    @property
    def is_blocking(self) -> bool:
        """Whether entering it may wait for a disk or a network."""
        return self.call.charges.payers.is_blocking


class BegunRetrieval:
    """A request for what earlier work has used."""

    __slots__ = ("hook", "outgoing")

    def __init__(self, hook: LaterHook, outgoing: Outgoing) -> None:
        self.outgoing = outgoing
        self.hook = hook

    @property
    def is_blocking(self) -> bool:
        """Whether entering what was read may wait for a disk or a network."""
        return self.hook.is_blocking


def begin(
    provider: Provider,
    client: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    scope: Scope | None,
) -> Begun | BegunRetrieval | None:
    """Return what these arguments of `request` begin; None for what is not ours to see."""
    try:
        return _begun(provider, Outgoing.of(client, args, kwargs), scope)
    except Exception as error:
        swallowed("read a request", error)
        return None


def _begun(
    provider: Provider, outgoing: Outgoing, scope: Scope | None
) -> Begun | BegunRetrieval | None:
    if is_ours(outgoing.options):
        return None  # seen by another wrapper of ours further out
    request = _request(provider, outgoing)
    if isinstance(request, Request) and request.operation != "runs":
        return Begun(Call(provider, request, scope), outgoing)
    if (retrieval := provider.retrieval(outgoing.method, outgoing.path)) is not None:
        findings = Findings(provider, retrieval, scope)
        if not retrieval.is_continued or _was_begun(findings):
            return BegunRetrieval(LaterHook(findings, outgoing.options), outgoing)
    if isinstance(request, Request):
        return Begun(Call(provider, request, scope), outgoing)
    if request == "uncovered":
        warn_uncovered(provider.name, outgoing.path)
    return None


def is_ours(options: Any) -> bool:
    """Tell whether a hook of ours stands in the options of a request already."""
    return isinstance(getattr(options, "post_parser", None), (AnswerHook, LaterHook))


def warn_unlimited(call: Call, why: str) -> None:
    """Warn, once, that a limit cannot hold calls which are seen only when they are answered."""
    if any(terms.is_hard for terms in call.charges.payers.terms):
        sdk = call.provider.name
        text = f"{why} of the {sdk} SDK are entered, but not held to their budgets"
        _warn((sdk, why), text, InstrumentationWarning)


def warn_uncovered(sdk: str, path: str) -> None:
    """Warn, once for each kind, of a call that may be billed and is in no total."""
    segments = [part for part in path.split("/") if part not in ("", "v1")]
    _warn(
        (sdk, segments[0] if segments else path),
        f"a call to {path} of the {sdk} SDK may be billed, but is not understood: "
        "it is in no total",
        UncoveredCallWarning,
    )


def _request(provider: Provider, outgoing: Outgoing) -> Request | str:
    if outgoing.method != "post":
        return "free"
    return provider.request(
        outgoing.path, outgoing.body, host=outgoing.host, api_version=outgoing.api_version
    )


def _was_begun(findings: Findings) -> bool:
    """Tell whether work that goes on is entered already: by this process, or in its ledger."""
    key = findings.retrieval.key
    return is_known(key) or is_waiting(key, findings.ledger)


def _warn(key: tuple[str, str], text: str, category: type[Warning]) -> None:
    if key not in _warned:
        _warned.add(key)
        with guard("warn"):  # where warnings are errors, the call is entered all the same
            warnings.warn(text, category, stacklevel=stack_level())
