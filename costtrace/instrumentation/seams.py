"""Where we stand in the SDKs: what is done around each `request`, and what is listened to.

A call is begun before `request`, and ended after it or by its stream. Between the two, the SDK
hands its answer to the `post_parser` of the call's options, before it can raise on an answer that
is already billed.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from costtrace.instrumentation.answer import AnswerHook
from costtrace.instrumentation.authorize import authorize, authorize_async
from costtrace.instrumentation.begin import Begun, BegunRetrieval, begin, is_ours, warn_unlimited
from costtrace.instrumentation.faults import REFUSALS, guard, swallowed
from costtrace.instrumentation.offload import off_loop
from costtrace.instrumentation.patch import Patch, PatchedModule, Wrapper
from costtrace.instrumentation.presence import is_seen
from costtrace.instrumentation.sockets import SOCKETS
from costtrace.providers import PROVIDERS, Provider
from costtrace.scopes import current

BYPASSED = "calls through a request() that another tool has put in the place of that"


def request_wrapper(provider: Provider) -> Wrapper:
    """Return what stands around `SyncAPIClient.request`."""

    def request(wrapped: Any, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        begun = _begin(provider, client, args, kwargs)
        if begun is None:
            return wrapped(*args, **kwargs)
        if isinstance(begun, Begun):
            try:
                authorize(begun.call, begun.outgoing)
            except REFUSALS:
                raise
            except Exception as error:
                swallowed("authorize a call", error)
            begun.hook.install(begun.outgoing)
        return _send(wrapped, begun, begun.outgoing.args, begun.outgoing.kwargs)

    return request


def _send(
    wrapped: Any, begun: Begun | BegunRetrieval, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    try:
        returned = wrapped(*args, **kwargs)
    except BaseException as error:
        begun.hook.failed(error)
        raise
    begun.hook.returned(returned)
    return returned


def async_request_wrapper(provider: Provider) -> Wrapper:
    """Return what stands around `AsyncAPIClient.request`."""

    async def request(
        wrapped: Any, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        begun = _begin(provider, client, args, kwargs)
        if begun is None:
            return await wrapped(*args, **kwargs)
        if isinstance(begun, Begun):
            try:
                await authorize_async(begun.call, begun.outgoing)
            except REFUSALS:
                raise
            except Exception as error:
                swallowed("authorize a call", error)
            begun.hook.install(begun.outgoing)
        return await _send_async(wrapped, begun, begun.outgoing.args, begun.outgoing.kwargs)

    return request


async def _send_async(
    wrapped: Any, begun: Begun | BegunRetrieval, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    try:
        returned = await wrapped(*args, **kwargs)
    except GeneratorExit as error:  # the coroutine was closed: nothing can be awaited
        begun.hook.failed(error)
        raise
    except BaseException as error:
        await off_loop(begun.is_blocking, partial(begun.hook.failed, error))
        raise
    if begun.is_blocking:
        await off_loop(True, partial(begun.hook.returned, returned))
    else:  # without a coroutine of its own for what does not wait
        begun.hook.returned(returned)
    return returned


def answered_wrapper(provider: Provider) -> Wrapper:
    """Return what listens to `_process_response`: an answer has come, after so many retries.

    Where another tool has replaced a client's `request`, this is the first we see of its calls.
    """

    def answered(wrapped: Any, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        begun = _see_answer(provider, client, args, kwargs)
        if begun is None:
            return wrapped(*args, **kwargs)
        return _send(wrapped, begun, begun.outgoing.args, begun.outgoing.kwargs)

    return answered


def async_answered_wrapper(provider: Provider) -> Wrapper:
    """Return the same for async clients."""

    async def answered(
        wrapped: Any, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        begun = _see_answer(provider, client, args, kwargs)
        if begun is None:
            return await wrapped(*args, **kwargs)
        return await _send_async(wrapped, begun, begun.outgoing.args, begun.outgoing.kwargs)

    return answered


def _see_answer(
    provider: Provider, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Begun | BegunRetrieval | None:
    """Tell a call that it is answered; begin it only now if nobody has seen it before."""
    try:
        response, options = kwargs.get("response"), _options(args, kwargs)
        hook = getattr(options, "post_parser", None)
        if isinstance(hook, AnswerHook):
            hook.answered(response, kwargs.get("retries_taken"))
        elif not is_ours(options) and getattr(response, "status_code", 200) < 400:
            return _begin_late(provider, client, args, kwargs)
    except Exception as error:
        swallowed("see an answer", error)
    return None


def _begin_late(
    provider: Provider, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Begun | BegunRetrieval | None:
    """Begin a call that is answered already."""
    begun = _begin(provider, client, args, kwargs)
    if isinstance(begun, Begun):
        begun.hook.install_late(begun.outgoing)
        begun.hook.answered(kwargs.get("response"), kwargs.get("retries_taken"))
        warn_unlimited(begun.call, BYPASSED)
    return begun


def _options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs.get("options") or (args[1] if len(args) > 1 else None)


def retried_wrapper(wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Listen to `_calculate_retry_timeout`: an attempt has failed, and there will be another."""
    with guard("see a retry"):
        hook = getattr(_options(args, kwargs), "post_parser", None)
        if isinstance(hook, AnswerHook):
            headers = kwargs.get("response_headers") or (args[2] if len(args) > 2 else None)
            hook.retried(headers, sys.exc_info()[1])
    return wrapped(*args, **kwargs)


def patched_sdk(provider: Provider) -> PatchedModule:
    """Return the patches of one SDK's clients, not yet applied."""
    answered, async_answered = answered_wrapper(provider), async_answered_wrapper(provider)
    return PatchedModule(
        provider.name,
        provider.module,
        (
            Patch("SyncAPIClient", "request", request_wrapper(provider), is_required=True),
            Patch("AsyncAPIClient", "request", async_request_wrapper(provider), is_required=True),
            Patch("SyncAPIClient", "_process_response", answered, is_required=False),
            Patch("AsyncAPIClient", "_process_response", async_answered, is_required=False),
            Patch("BaseClient", "_calculate_retry_timeout", retried_wrapper, is_required=False),
        ),
    )


PATCHED = (*(patched_sdk(provider) for provider in PROVIDERS), *SOCKETS)


def _begin(
    provider: Provider, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Begun | BegunRetrieval | None:
    scope = current()
    if not is_seen(scope):
        return None
    return begin(provider, client, args, kwargs, scope)
