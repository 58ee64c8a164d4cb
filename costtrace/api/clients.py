"""Which client asks which model: the ones that were given, else the SDKs' own defaults."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from costtrace.api.asking import ANTHROPIC, OPENAI, protocol_of

_DEFAULTS = {  # provider -> the SDK's classes, sync and async
    OPENAI: ("OpenAI", "AsyncOpenAI"),
    ANTHROPIC: ("Anthropic", "AsyncAnthropic"),
}


class Clients:
    """The client of each provider. One that was not given is made of the environment when needed.

    `given` is one client, several of them, or a mapping of provider to client: that one asks for
    this provider's models whatever it is, such as a gateway with OpenAI's protocol for Claude.
    Raises `TypeError` or `ValueError` for anything else.
    """

    def __init__(self, given: object, *, is_async: bool) -> None:
        self._is_async = is_async
        self._made: list[Any] = []
        self._clients = _by_provider(given)
        for provider, client in self._clients.items():
            _check_kind(provider, client, is_async)

    def of(self, provider: str) -> Any:
        """Return the client that asks for a provider's models.

        Making one may raise the SDK's own errors, as where the environment holds no key.
        """
        client = self._clients.get(provider)
        if client is None:
            client = getattr(import_module(provider), _DEFAULTS[provider][self._is_async])()
            self._clients[provider] = client
            self._made.append(client)
        return client

    def close(self) -> None:
        """Close the clients that were made here."""
        while self._made:
            self._made.pop().close()

    async def aclose(self) -> None:
        """Close the async clients that were made here."""
        while self._made:
            await self._made.pop().close()


def _by_provider(given: object) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        if unknown := [name for name in given if name not in _DEFAULTS]:
            raise ValueError(f"client has no provider {unknown[0]!r}: there are {[*_DEFAULTS]}")
        for client in given.values():
            _protocol(client)
        return dict(given)
    found: dict[str, Any] = {}
    for client in given if isinstance(given, (list, tuple)) else [given]:
        protocol = _protocol(client)
        if protocol in found:
            raise ValueError(
                f"client holds two for {protocol}: give a mapping of provider to client"
            )
        found[protocol] = client
    return found


def _protocol(client: object) -> str:
    protocol = protocol_of(client)
    if protocol is None:
        raise TypeError(
            "client must be a client of the openai or anthropic SDK, several of them, or a "
            f"mapping of provider to client, not {type(client).__name__}"
        )
    return protocol


def _check_kind(provider: str, client: object, is_async: bool) -> None:
    if inspect.iscoroutinefunction(getattr(client, "close", None)) != is_async:
        right = "acompare_models" if not is_async else "compare_models"
        kind = "a synchronous" if is_async else "an async"
        raise TypeError(f"the {provider} client is {kind} one: use {right}")
