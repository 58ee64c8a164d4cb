"""Reaching 127.0.0.1 directly: whatever proxy the environment names, it must not be asked."""

from __future__ import annotations

import ssl
from functools import lru_cache
from importlib import import_module
from typing import Any

HERE = "127.0.0.1"


def direct_client(sdk: str, *, is_async: bool) -> Any:
    """Return the HTTP client that an SDK would make for itself, deaf to the environment.

    The SDK's own class, which closes itself when it is collected. Anthropic's mounts the proxies
    of the environment whatever it is told, so this address is mounted past them.
    """
    name = f"{'Async' if is_async else 'Sync'}HttpxClientWrapper"
    return getattr(import_module(f"{sdk}._base_client"), name)(
        trust_env=False, mounts={f"all://{HERE}": None}, verify=_tls()
    )


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """One for all clients: to load certificates takes longer than many calls that need none."""
    return ssl.create_default_context()


def without_proxy(hosts: str) -> str:
    """Return the value of `NO_PROXY` with the loopback provider's address added to it."""
    return f"{hosts},{HERE}" if hosts else HERE
