"""The error bodies of both providers."""

from __future__ import annotations

from costtrace.testing.answer import Answer, dump

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    409: "conflict_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_RETRIED = frozenset({408, 409, 429})


def error_answer(provider: str, status: int, message: str | None) -> Answer:
    """The provider's refusal; where the SDKs try again, it asks them to do so at once."""
    message = message or f"The loopback provider was asked for status {status}."
    body: dict[str, object]
    if provider == "anthropic":
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        body = {"type": "error", "error": {"type": kind, "message": message}}
    else:
        kind = _OPENAI_TYPES.get(status, "server_error")
        body = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    is_retried = status in _RETRIED or status >= 500
    return Answer(dump(body), status, headers={"retry-after-ms": "1"} if is_retried else {})
