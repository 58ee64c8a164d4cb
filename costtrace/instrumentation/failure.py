"""What an error of an SDK says of the request behind it, by names alone: no SDK is imported."""

from __future__ import annotations

NEVER_SENT = {
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "ProxyError",
    "UnsupportedProtocol",
    "InvalidURL",
    "LocalProtocolError",
}
"""Failures of HTTP libraries that come before anything could be billed."""
TRANSPORT = {"APIConnectionError", "TransportError", "TimeoutException"}
"""The SDKs' own errors for a request that nobody answered, and those of HTTP libraries."""
RETRY_COUNT = "x-stainless-retry-count"


def attempts_of(error: BaseException) -> int:
    """Return which attempt an SDK's error tells of, by the header that the SDK counts in."""
    for holder in (getattr(error, "response", None), error):
        headers = getattr(getattr(holder, "request", None), "headers", None)
        count = headers.get(RETRY_COUNT) if headers is not None else None
        if isinstance(count, str) and count.isdigit():
            return int(count) + 1
    return 1


def has_status(error: BaseException) -> bool:
    """Tell whether the provider refused or failed the request, and said so."""
    return isinstance(getattr(error, "status_code", None), int)


def is_transport_error(error: BaseException) -> bool:
    """Tell whether nobody answered."""
    return not _names(error).isdisjoint(TRANSPORT)


def was_never_sent(error: BaseException | None) -> bool:
    """Tell whether the request cannot have reached anybody."""
    return error is not None and not _names(error).isdisjoint(NEVER_SENT)


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
