"""Reading what users put into a request: dicts, objects of the SDKs, values that mean "not given".

The SDKs are never imported: their objects are recognised by what they can do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

Fields = Mapping[str, Any]

_ABSENT = frozenset({"Omit", "NotGiven"})  # the classes the SDKs fill unset arguments with


def is_absent(value: object) -> bool:
    """Tell whether `value` stands for an argument that was not given."""
    return value is None or type(value).__name__ in _ABSENT


def given(body: Fields, key: str) -> Any:
    """Return what `body` has under `key`, None if it has nothing or the SDK's "not given"."""
    value = body.get(key)
    return None if is_absent(value) else value


def fields(value: object) -> Fields | None:
    """Return the fields of a message, a block or a tool; None if `value` is nothing of the kind.

    Takes mappings, the SDKs' pydantic objects (what they left unset is left out) and plain objects
    with attributes.
    """
    if isinstance(value, Mapping):
        return value
    if isinstance(value, (str, bytes, int, float, list, tuple, set, type(None), Iterator)):
        return None
    found = getattr(value, "__dict__", None)
    if not isinstance(found, dict) or callable(value):
        return None
    extra = getattr(value, "model_extra", None)
    everything = {**found, **extra} if isinstance(extra, dict) else found
    return {
        name: field
        for name, field in everything.items()
        if not is_absent(field) and not name.startswith("_")
    }


def is_list(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Tell whether `value` can be read again and again; an iterator cannot."""
    return isinstance(value, (list, tuple))


def message_list(messages: object, what: str = "messages") -> list[Fields]:
    """Return `messages` as a list of fields; a one-shot iterator is read to its end.

    Raises `TypeError`, naming the place, for anything that is no series of messages.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise TypeError(f"{what} must be a list of messages, not {type(messages).__name__}")
    read = []
    for place, message in enumerate(messages):
        found = fields(message)
        if found is None:
            raise TypeError(
                f"{what}[{place}] must be a dict or an object of the SDK, "
                f"not {type(message).__name__}"
            )
        read.append(found)
    return read


def plain(value: Any, depth: int = 100) -> Any:
    """Return `value` as dicts, lists and scalars only, so that JSON can say it.

    Raises `ValueError` where it is nested deeper than `depth`.
    """
    if depth < 0:
        raise ValueError("a request nested this deeply cannot be counted")
    if value is None or isinstance(value, (str, int, float)):
        return value
    found = fields(value)
    if found is not None:
        return {
            str(name): plain(field, depth - 1)
            for name, field in found.items()
            if type(field).__name__ not in _ABSENT
        }
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [plain(item, depth - 1) for item in value]
    return str(value)


def compact_json(value: Any) -> str:
    """Return `value` as JSON without blanks, as providers put schemas into a prompt."""
    import json  # here: bounds do without it, and it is slow to import

    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))
