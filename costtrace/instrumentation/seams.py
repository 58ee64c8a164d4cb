"""Where we stand in the SDKs: what is done around each `request`, and what is listened to.

A call is begun before `request`, and ended after it or by its stream. Between the two, the SDK
hands its answer to the `post_parser` of the call's options, before it can raise on an answer that
is already billed.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from costtrace.exceptions import (
    BudgetExceededError,
    BudgetStoreError,
    UncoveredCallWarning,
    UnknownPriceError,
)
from costtrace.instrumentation.answer import AnswerHook
from costtrace.instrumentation.authorize import Steps, Wait, authorization
from costtrace.instrumentation.call import Call
from costtrace.instrumentation.faults import guard
from costtrace.instrumentation.offload import off_loop, pause, pause_async
from costtrace.instrumentation.outgoing import Outgoing
from costtrace.instrumentation.patch import Patch, PatchedSDK, Wrapper
from costtrace.providers import PROVIDERS, Provider, Request
from costtrace.scopes import active, current, pin, register, unpin

REFUSALS = (BudgetExceededError, UnknownPriceError, BudgetStoreError)
"""The only errors of ours that reach a caller, before anything is sent."""
_uncovered: set[tuple[str, str]] = set()


class Begun:
    """A call that is under way, and the arguments to send it with."""

    __slots__ = ("call", "hook", "outgoing")

    def __init__(self, call: Call, outgoing: Outgoing) -> None:
        self.call = call
        self.outgoing = outgoing
        self.hook = AnswerHook(call, outgoing)


def request_wrapper(provider: Provider) -> Wrapper:
    """Return what stands around `SyncAPIClient.request`."""

    def request(wrapped: Any, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        begun = _begin(provider, client, args, kwargs)
        if begun is None:
            return wrapped(*args, **kwargs)
        with _harmless("authorize a call"):
            _drive(authorization(begun.call, begun.outgoing))
        begun.hook.install()
        try:
            returned = wrapped(*begun.outgoing.args, **begun.outgoing.kwargs)
        except BaseException as error:
            begun.hook.failed(error)
            raise
        begun.hook.returned(returned)
        return returned

    return request


def async_request_wrapper(provider: Provider) -> Wrapper:
    """Return what stands around `AsyncAPIClient.request`."""

    async def request(
        wrapped: Any, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        begun = _begin(provider, client, args, kwargs)
        if begun is None:
            return await wrapped(*args, **kwargs)
        with _harmless("authorize a call"):
            await _drive_async(authorization(begun.call, begun.outgoing), begun)
        begun.hook.install()
        try:
            returned = await wrapped(*begun.outgoing.args, **begun.outgoing.kwargs)
        except BaseException as error:
            begun.hook.failed(error)
            raise
        await off_loop(
            begun.call.charges.is_blocking, lambda: begun.hook.returned(returned), _nothing
        )
        return returned

    return request


def answered_wrapper(wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Listen to `_process_response`: an answer has come, after so many retries."""
    with guard("see an answer"):
        options = kwargs.get("options") or (args[1] if len(args) > 1 else None)
        hook = getattr(options, "post_parser", None)
        if isinstance(hook, AnswerHook):
            hook.answered(kwargs.get("response"), kwargs.get("retries_taken"))
    return wrapped(*args, **kwargs)


def retried_wrapper(wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Listen to `_calculate_retry_timeout`: an attempt has failed, and there will be another."""
    with guard("see a retry"):
        options = kwargs.get("options") or (args[1] if len(args) > 1 else None)
        hook = getattr(options, "post_parser", None)
        if isinstance(hook, AnswerHook):
            headers = kwargs.get("response_headers") or (args[2] if len(args) > 2 else None)
            hook.retried(headers, sys.exc_info()[1])
    return wrapped(*args, **kwargs)


def patched_sdk(provider: Provider) -> PatchedSDK:
    """Return the patches of one SDK, not yet applied."""
    return PatchedSDK(
        provider,
        (
            Patch("SyncAPIClient", "request", request_wrapper(provider), is_required=True),
            Patch("AsyncAPIClient", "request", async_request_wrapper(provider), is_required=True),
            Patch("SyncAPIClient", "_process_response", answered_wrapper, is_required=False),
            Patch("AsyncAPIClient", "_process_response", answered_wrapper, is_required=False),
            Patch("BaseClient", "_calculate_retry_timeout", retried_wrapper, is_required=False),
        ),
    )


SDKS = tuple(patched_sdk(provider) for provider in PROVIDERS)


class _Presence:
    """Whether calls are seen, and whether those outside any scope are."""

    sees_unscoped = False


def instrument() -> None:
    """See all calls from now on, also those outside any scope, until `uninstrument()`.

    They are entered under the function "unknown" and the user "anon".
    """
    if not is_disabled():
        _Presence.sees_unscoped = True
        pin()


def uninstrument() -> None:
    """Undo `instrument()`: without an open scope, the SDKs are restored."""
    _Presence.sees_unscoped = False
    unpin()


def is_active() -> bool:
    """Return whether calls are seen now: a scope is open, or `instrument()` holds."""
    return active() and not is_disabled()


def is_disabled() -> bool:
    """Return whether `COSTTRACE_DISABLED` turns all instrumentation off."""
    return os.environ.get("COSTTRACE_DISABLED", "").strip().lower() in ("1", "true", "yes", "on")


def _apply() -> None:
    if not is_disabled():
        for sdk in SDKS:
            sdk.apply()


def _remove() -> None:
    for sdk in SDKS:
        sdk.remove()


register(_apply, _remove)


def _begin(
    provider: Provider, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Begun | None:
    """Return the call that these arguments make; None for what is not ours to see."""
    scope = current()
    if scope is None and not _Presence.sees_unscoped:
        return None
    with guard("read a request"):
        outgoing = Outgoing.of(client, args, kwargs)
        if outgoing is None or isinstance(outgoing.options.post_parser, AnswerHook):
            return None  # not billed, or seen by another wrapper of ours further out
        request = provider.request(outgoing.path, outgoing.body, host=outgoing.host)
        if isinstance(request, Request):
            return Begun(Call(provider, request, scope), outgoing)
        if request == "uncovered":
            _warn_uncovered(provider, outgoing.path)
    return None


def _drive(steps: Steps) -> None:
    """Take the steps of an authorization one after another."""
    answer: Any = None
    failure: BaseException | None = None
    while True:
        try:
            step = steps.send(answer) if failure is None else steps.throw(failure)
        except StopIteration:
            return
        answer, failure = None, None
        try:
            if isinstance(step, Wait):
                pause(step.seconds)
            else:
                answer = step()
        except BaseException as error:
            failure = error


async def _drive_async(steps: Steps, begun: Begun) -> None:
    """Take the steps of an authorization, those that may block in a thread."""
    answer: Any = None
    failure: BaseException | None = None
    is_blocking = begun.call.charges.is_blocking

    def undo(_: object) -> None:
        begun.call.release()

    while True:
        try:
            step = steps.send(answer) if failure is None else steps.throw(failure)
        except StopIteration:
            return
        answer, failure = None, None
        try:
            if isinstance(step, Wait):
                await pause_async(step.seconds)
            else:
                answer = await off_loop(is_blocking, step, undo)
        except BaseException as error:
            failure = error


class _harmless:  # noqa: N801 (used like a keyword)
    """Let refusals through; any other fault of ours is swallowed, and the call goes on."""

    __slots__ = ("_guard",)

    def __init__(self, what: str) -> None:
        self._guard = guard(what)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if isinstance(error, REFUSALS):
            return False
        return self._guard.__exit__(kind, error, traceback)


def _warn_uncovered(provider: Provider, path: str) -> None:
    kind = (provider.name, path.rsplit("/", 1)[-1])
    if kind not in _uncovered:
        _uncovered.add(kind)
        warnings.warn(
            f"a call to {path} of the {provider.name} SDK may be billed, but is not understood: "
            "it is in no total",
            UncoveredCallWarning,
            stacklevel=4,
        )


def _nothing(_: Any) -> None:
    return None
