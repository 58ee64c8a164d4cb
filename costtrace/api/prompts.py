"""What a user writes as `messages`: a text, a conversation, or several of either."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from costtrace.tokens.reading import fields

Conversation = list[Any]
"""Messages: dicts, or the SDKs' own objects."""


def conversation(messages: object) -> Conversation:
    """Return one conversation; a text is one message of the user.

    Raises `TypeError` or `ValueError` for what is none.
    """
    several = conversations(messages)
    if len(several) > 1:
        raise TypeError(f"messages must be one conversation, not {len(several)} prompts")
    return several[0]


def conversations(messages: object) -> list[Conversation]:
    """Return the conversations in a text, a list of messages, or a list of several of either.

    Raises `TypeError` or `ValueError`, naming the place, for what is none of these.
    """
    if isinstance(messages, str):
        return [_of_text(messages, "messages")]
    items = _listed(messages, "messages")
    if all(_is_message(item) for item in items):
        return [items]
    return [_prompt(item, f"messages[{place}]") for place, item in enumerate(items)]


def _prompt(item: object, where: str) -> Conversation:
    if isinstance(item, str):
        return _of_text(item, where)
    messages = _listed(item, where)
    for place, message in enumerate(messages):
        if not _is_message(message):
            raise TypeError(
                f"{where}[{place}] must be a message with a role, not {type(message).__name__}"
            )
    return messages


def _of_text(text: str, where: str) -> Conversation:
    if not text.strip():
        raise ValueError(f"{where} must not be empty")
    return [{"role": "user", "content": text}]


def _listed(value: object, where: str) -> list[Any]:
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(
            f"{where} must be a text, a list of messages, or a list of several of either, "
            f"not {type(value).__name__}"
        )
    items = list(value)
    if not items:
        raise ValueError(f"{where} must not be empty")
    return items


def _is_message(item: object) -> bool:
    found = fields(item)
    return found is not None and "role" in found
