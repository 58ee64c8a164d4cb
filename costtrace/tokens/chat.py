"""Counting messages and Responses input as the providers' published rules have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from costtrace.tokens.counts import TokenCount
from costtrace.tokens.parts import PARALLEL, PARALLEL_CALL, add_call, add_content
from costtrace.tokens.reading import Fields, fields, given, is_list, message_list
from costtrace.tokens.tally import Tally
from costtrace.tokens.tools import add_schema, add_tools

REPLY = 3  # every answer is primed with the start of a message
CLAUDE_MESSAGE = 4
CLAUDE_START = 8
_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))


def check_text(text: object) -> str:
    """Return `text` if it is one; raises `TypeError` otherwise."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    return text


def check_model(model: object) -> str:
    """Return the name of a model; raises `TypeError` or `ValueError` where it is none."""
    if not isinstance(model, str):
        raise TypeError(f"model must be a str, not {type(model).__name__}")
    if not model.strip():
        raise ValueError("model is empty: name the model whose tokens are counted")
    return model


def count_chat(
    messages: object, model: str, tools: object = None, response_format: object = None
) -> TokenCount:
    """Return the input tokens of a chat or Claude conversation by rules, on this machine alone."""
    tally = Tally(model)
    add_messages(tally, message_list(messages))
    add_tools(tally, tools)
    add_schema(tally, response_format)
    tally.tokens += framing(tally)
    return tally.total()


def framing(tally: Tally) -> int:
    """What a conversation costs beside its messages."""
    return CLAUDE_START if tally.family.is_claude else REPLY


def add_messages(tally: Tally, messages: list[Fields]) -> None:
    """Add messages in order, each with its framing."""
    parallel = False
    for place, message in enumerate(messages):
        role = message.get("role")
        if role is None and "type" not in message:
            raise ValueError(f"messages[{place}] has neither a role nor a type")
        calls = given(message, "tool_calls")
        if role == "assistant":
            parallel = is_list(calls) and len(calls) > 1
        add_message(tally, message, escaped=parallel and role == "tool")


def add_message(tally: Tally, message: Fields, *, escaped: bool = False) -> None:
    """Add one message; `escaped` if it is one of several results that belong together."""
    role = given(message, "role")
    if role is None:
        add_content(tally, message)  # an item of a Responses input: a call, its result, ...
        return
    _add_frame(tally, message, str(role))
    add_content(tally, given(message, "content"), escaped=escaped)
    if given(message, "refusal") is not None:
        tally.rule_of_thumb()
        tally.text(message["refusal"])
    if given(message, "audio") is not None:
        tally.leave_out("audio of an earlier answer")
    _add_calls(tally, message)
    if role in ("tool", "function"):
        tally.rule_of_thumb()


def _add_frame(tally: Tally, message: Fields, role: str) -> None:
    kind = tally.family
    if kind.is_claude:
        tally.rule_of_thumb(CLAUDE_MESSAGE)
        return
    tally.tokens += kind.message_tokens
    tally.text(role)
    if role not in _ROLES or role == "developer" or not kind.is_framing_verified:
        tally.rule_of_thumb()
    name = given(message, "name")
    if name is not None:
        tally.text(str(name))
        tally.tokens += kind.name_tokens


def _add_calls(tally: Tally, message: Fields) -> None:
    calls = given(message, "tool_calls")
    if is_list(calls) and calls:
        if len(calls) > 1:
            tally.rule_of_thumb(PARALLEL + PARALLEL_CALL * (len(calls) - 1))
        for call in calls:
            found = fields(call) or {}
            inner = fields(given(found, "function")) or fields(given(found, "custom")) or {}
            add_call(tally, inner.get("name"), inner.get("arguments", inner.get("input")))
    function = fields(given(message, "function_call"))
    if function is not None:
        add_call(tally, function.get("name"), function.get("arguments"))


def _add_prompts(tally: Tally, prompts: Sequence[object]) -> None:
    for place, prompt in enumerate(prompts):
        if isinstance(prompt, str):
            tally.text(prompt)
        elif isinstance(prompt, int):
            tally.tokens += 1
        elif is_list(prompt):
            _add_prompts(tally, prompt)
        else:
            raise TypeError(
                f"input[{place}] must be an item, a text or a token id, not {type(prompt).__name__}"
            )


def count_input(
    value: object,
    model: str,
    instructions: str | None = None,
    tools: object = None,
    text_format: object = None,
) -> TokenCount:
    """Return the input tokens of a Responses request by the rules of the chat, which it shares."""
    tally = Tally(model)
    if is_list(value) and value and not any(fields(item) for item in value):
        _add_prompts(tally, value)
        return tally.total()
    tally.rule_of_thumb()
    if instructions:
        add_message(tally, {"role": "developer", "content": check_text(instructions)})
    if isinstance(value, str):
        add_message(tally, {"role": "user", "content": value})
    elif value is not None:
        if isinstance(value, Mapping) or not isinstance(value, Iterable):
            raise TypeError(f"input must be a str or a list of items, not {type(value).__name__}")
        add_messages(tally, message_list(value, "input"))
    add_tools(tally, tools)
    add_schema(tally, text_format)
    tally.tokens += framing(tally)
    return tally.total()
