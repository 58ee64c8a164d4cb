"""Making a conversation or a text fit into so many tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

from costtrace.tokens.chat import add_messages, check_model, check_text, framing
from costtrace.tokens.encoding import tokenizer
from costtrace.tokens.pieces import PIECE_CHARS, utf8_length
from costtrace.tokens.reading import Fields, fields, given, is_list, message_list
from costtrace.tokens.tally import Tally
from costtrace.tokens.tools import add_tools

Message = TypeVar("Message")

_SYSTEM = frozenset(("system", "developer"))
_RESULT_ROLES = frozenset(("tool", "function"))


def trim_messages(
    messages: Iterable[Message], max_tokens: int, model: str, *, tools: Iterable[Any] | None = None
) -> list[Message]:
    """Return the system messages and the latest turns that fit into `max_tokens`, in order.

    A turn begins with a message of the user. If the last turn alone is too long, its question and
    its latest steps stay; a tool's result always stays with the call it answers, in chat and in
    Claude's way. The messages are those that were given, not copies. Raises `ValueError` if the
    system messages, the last question and the last step do not fit, `TypeError` for what is no list
    of messages.

    >>> trim_messages([{"role": "user", "content": "Hello"}], 100, "gpt-4o")
    [{'role': 'user', 'content': 'Hello'}]
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise TypeError(f"messages must be a list of messages, not {type(messages).__name__}")
    given_messages = list(messages)
    read = message_list(given_messages)
    room = _check_limit(max_tokens) - _fixed_cost(read, check_model(model), tools)
    turns = _turns(read)
    kept = [place for place, message in enumerate(read) if message.get("role") in _SYSTEM]
    latest = _latest_turns(turns, read, model, room)
    if not latest:
        latest, missing = _latest_steps(turns, read, model, room)
        if missing > 0:
            raise ValueError(
                f"max_tokens={max_tokens} is too small: the system message and the last turn "
                f"need {max_tokens + missing}"
            )
    return [given_messages[place] for place in sorted(kept + latest)]


Step = list[int]  # places of messages that must stay together


def _latest_turns(turns: list[list[Step]], read: list[Fields], model: str, room: int) -> Step:
    kept: list[int] = []
    for turn in reversed(turns):
        places = [place for step in turn for place in step]
        room -= _cost(places, read, model)
        if room < 0:
            break
        kept += places
    return kept


def _latest_steps(
    turns: list[list[Step]], read: list[Fields], model: str, room: int
) -> tuple[Step, int]:
    """What fits of a last turn that is too long: what began it, and its last steps.

    With it, how many tokens are missing for the least that has to stay.
    """
    if not turns:
        return [], -room
    first, *steps = turns[-1]
    room -= _cost(first, read, model)
    kept: list[int] = []
    for step in reversed(steps):
        room -= _cost(step, read, model)
        if room < 0:
            break
        kept += step
    return [*first, *kept], 0 if kept else -room


def _turns(read: list[Fields]) -> list[list[Step]]:
    turns: list[list[Step]] = []
    for place, message in enumerate(read):
        if message.get("role") in _SYSTEM:
            continue
        if turns and (_is_result(message) or _continues(read[turns[-1][-1][-1]], message)):
            turns[-1][-1].append(place)
        elif turns and message.get("role") != "user":
            turns[-1].append([place])
        else:
            turns.append([[place]])
    return turns


def _continues(before: Fields, item: Fields) -> bool:
    """In a Responses input, calls made together follow each other, before all their results."""
    return "role" not in before and "role" not in item and not _is_result(before)


def _is_result(message: Fields) -> bool:
    if message.get("role") in _RESULT_ROLES:
        return True
    if str(message.get("type", "")).endswith("_output"):
        return True  # an item of a Responses input
    content = given(message, "content")
    if message.get("role") != "user" or not is_list(content):
        return False
    kinds = [(fields(part) or {}).get("type") for part in content]
    return any(isinstance(kind, str) and kind.endswith("tool_result") for kind in kinds)


def _cost(places: Step, read: list[Fields], model: str) -> int:
    tally = Tally(model)
    add_messages(tally, [read[place] for place in places])
    return tally.tokens


def _fixed_cost(read: list[Fields], model: str, tools: Iterable[Any] | None) -> int:
    tally = Tally(model)
    add_messages(tally, [message for message in read if message.get("role") in _SYSTEM])
    add_tools(tally, list(tools) if tools is not None else None)
    return tally.tokens + framing(tally)


def _check_limit(max_tokens: object) -> int:
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int):
        raise TypeError(f"max_tokens must be an int, not {type(max_tokens).__name__}")
    if max_tokens < 0:
        raise ValueError(f"max_tokens must not be negative: {max_tokens}")
    return max_tokens


def truncate_text(
    text: str, max_tokens: int, model: str, *, keep: Literal["start", "end"] = "start"
) -> str:
    """Return the start (or the end) of `text` that has at most `max_tokens` tokens for `model`.

    A text that fits comes back as it is. Raises `TypeError` or `ValueError` for bad arguments.

    >>> truncate_text("one two three four", 2, "gpt-4o")
    'one two'
    """
    check_text(text)
    limit = _check_limit(max_tokens)
    if keep not in ("start", "end"):
        raise ValueError(f"keep must be 'start' or 'end', not {keep!r}")
    count = tokenizer(check_model(model)).count
    if utf8_length(text) <= limit or count(text) <= limit:
        return text
    size = 0
    while size < len(text):
        piece = _part(text, size, size + PIECE_CHARS, keep)
        tokens = count(piece)
        if tokens > limit:
            size += _fitting(piece, limit, count, keep)
            break
        size, limit = size + len(piece), limit - tokens
    part = _part(text, 0, size, keep)
    while part and count(part) > max_tokens:  # the cuts between the pieces may hide a token
        part = _part(part, 0, len(part) - 1, keep)
    return part


def _part(text: str, start: int, end: int, keep: str) -> str:
    """Characters `start` to `end`, from the front or from the back."""
    if keep == "start":
        return text[start:end]
    return text[max(0, len(text) - end) : len(text) - start]


def _fitting(piece: str, limit: int, count: Callable[[str], int], keep: str) -> int:
    """How many characters of `piece` have at most `limit` tokens."""
    fits, too_many = 0, len(piece)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if count(_part(piece, 0, middle, keep)) <= limit:
            fits = middle
        else:
            too_many = middle
    return fits
