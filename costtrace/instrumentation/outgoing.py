"""What an SDK is about to send, read off the options of its `request` method."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

RAW_HEADER = "x-stainless-raw-response"


class OptionsHook:
    """Stands in the options of a request, and stays the same however deep those are copied.

    The clients of Bedrock and Vertex copy them with all that is in them.
    """

    def __deepcopy__(self, _: object) -> OptionsHook:
        return self


class Adjustable(Protocol):
    """What is about to be sent, as far as an authorization may change it."""

    client: Any
    """Who can be asked to count it; None where nobody can."""
    options: Any
    max_retries: int

    def set(self, values: Mapping[str, Any]) -> None:
        """Set values of its body."""

    def set_max_retries(self, retries: int) -> None:
        """Let it be retried no more often than this."""


@dataclass(slots=True)
class Outgoing:
    """One `request` of an SDK client: its arguments, with options of our own to change."""

    client: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: Any
    method: str
    path: str
    body: dict[str, Any]
    host: str
    site: str
    """The host with its port: who is asked."""
    api_version: str
    max_retries: int

    @classmethod
    def of(cls, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outgoing:
        """Return what is about to be sent. The caller's options stay as they are."""
        options = copy.copy(args[1] if len(args) > 1 else kwargs["options"])
        if len(args) > 1:
            args = (args[0], options, *args[2:])
        else:
            kwargs = {**kwargs, "options": options}
        base_url = getattr(client, "_base_url", None)  # without the property around it
        host, site, base_path = _place_of(base_url or getattr(client, "base_url", None))
        body, extra = options.json_data, options.extra_json
        return cls(
            client=client,
            args=args,
            kwargs=kwargs,
            options=options,
            method=options.method.lower(),
            path=path_of(options.url, base_path),
            body={**_mapping(body), **_mapping(extra)} if extra else dict(_mapping(body)),
            host=host,
            site=site,
            api_version=_api_version(client),
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


def path_of(url: Any, base_path: str = "") -> str:
    """Return the path of a request's URL as the providers' tables have it, without any query."""
    text = url if type(url) is str else str(url)
    if text[:1] == "/" and "?" not in text:  # as nearly always
        return text
    if "://" in text:
        path = urlsplit(text).path
        base = base_path.rstrip("/")
        return path[len(base) :] if base and path.startswith(f"{base}/") else path
    path = text.split("?", 1)[0]
    return path if path.startswith("/") else f"/{path}"


def _mapping(value: Any) -> Mapping[str, Any]:
    if type(value) is dict:
        return value
    return value if isinstance(value, Mapping) else {}


_places: dict[int, tuple[Any, tuple[str, str, str]]] = {}
_MOST_PLACES = 64


def _place_of(base_url: Any) -> tuple[str, str, str]:
    """Return host, host with port, and path of a client's URL, which takes a URL long to tell."""
    known = _places.get(id(base_url))
    if known is not None and known[0] is base_url:
        return known[1]
    host, port = getattr(base_url, "host", ""), getattr(base_url, "port", None)
    place = (str(host), f"{host}:{port}", getattr(base_url, "path", ""))
    if len(_places) >= _MOST_PLACES:
        _places.clear()
    _places[id(base_url)] = (base_url, place)
    return place


def _api_version(client: Any) -> str:
    """Return the version that a client asks its host's API for; empty where it has none."""
    version = getattr(client, "_api_version", None)
    if version is None:
        version = _mapping(getattr(client, "_custom_query", None)).get("api-version")
    return version if isinstance(version, str) else ""


def _max_retries(client: Any, options: Any) -> int:
    """Return how often the SDK may try again after a failure."""
    for value in (options.max_retries, getattr(client, "max_retries", None)):
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return 0
