"""What an SDK is about to send, read off the options of its `request` method."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from costtrace.providers import Provider, Request

RAW_HEADER = "x-stainless-raw-response"


@dataclass(slots=True)
class Outgoing:
    """One `request` of an SDK client: its arguments, with options of our own to change."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: Any
    path: str
    body: dict[str, Any]
    host: str
    max_retries: int

    @classmethod
    def of(cls, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outgoing | None:
        """Return what is about to be sent; None for what is no POST and so never billed."""
        options = args[1] if len(args) > 1 else kwargs["options"]
        if options.method.lower() != "post":
            return None
        options = copy.copy(options)  # the caller's may be used again
        if len(args) > 1:
            args = (args[0], options, *args[2:])
        else:
            kwargs = {**kwargs, "options": options}
        return cls(
            args=args,
            kwargs=kwargs,
            options=options,
            path=_path(options.url),
            body={**_mapping(options.json_data), **_mapping(options.extra_json)},
            host=str(getattr(getattr(client, "base_url", None), "host", "") or ""),
            max_retries=_max_retries(client, options),
        )

    @property
    def is_raw(self) -> bool:
        """Whether the caller asked for the raw response, whose bytes nobody may change."""
        headers = _mapping(self.options.headers)
        return any(name.lower() == RAW_HEADER for name in headers)

    def set(self, values: Mapping[str, Any]) -> None:
        """Set values of the body, in a copy: the caller's own dict stays as it is."""
        self.body.update(values)
        extra = _mapping(self.options.extra_json)
        over = {name: value for name, value in values.items() if name in extra}
        if over:
            self.options.extra_json = {**extra, **over}
        self.options.json_data = {**_mapping(self.options.json_data), **values}

    def set_max_retries(self, retries: int) -> None:
        """Let the SDK retry no more often than this."""
        self.options.max_retries = retries
        self.max_retries = retries


def request_of(provider: Provider, outgoing: Outgoing) -> Request | str:
    """Return the billable request, or why it is none: `free` or `uncovered`."""
    return provider.request(outgoing.path, outgoing.body, host=outgoing.host)


def _path(url: Any) -> str:
    path = str(url).split("?", 1)[0]
    return path if path.startswith("/") else f"/{path}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _max_retries(client: Any, options: Any) -> int:
    """Return how often the SDK may try again after a failure."""
    for value in (options.max_retries, getattr(client, "max_retries", None)):
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return 0
