"""Counting the tools of a request: OpenAI's published rule for functions, and what stands in for
it where none is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from costtrace.tokens.families import Family
from costtrace.tokens.reading import Fields, compact_json, fields, given, is_list
from costtrace.tokens.tally import Tally

PROPERTIES = 3  # once where a function has any
PROPERTY = 3
ENUM = -3
ENUM_ITEM = 3
END = 12
SCHEMA = 20  # around a schema for the answer

# Claude's hidden prompt once there are tools; the higher figure of each model's two in the
# documentation. A model that is not listed gets the highest.
_CLAUDE_PROMPT = (
    ("claude-opus-4-7", 804),
    ("claude-opus-4-8", 410),
    ("claude-opus-5", 406),
    ("claude-sonnet-5", 474),
    ("claude-opus-4-6", 589),
    ("claude-sonnet-4-6", 589),
    ("claude-opus-4-5", 588),
    ("claude-sonnet-4-5", 588),
    ("claude-haiku-4-5", 588),
    ("claude-opus-4", 346),
    ("claude-sonnet-4", 346),
    ("claude-3-7-sonnet", 346),
    ("claude-3-5-sonnet", 346),
    ("claude-3-5-haiku", 340),
    ("claude-3-opus", 530),
    ("claude-3-sonnet", 235),
    ("claude-3-haiku", 340),
)
_CLAUDE_HIGHEST = 804
_CLAUDE_OWN = {"bash": 245, "text_editor": 700, "computer": 735 + 499, "memory": 700}
_FLAT = frozenset(("string", "number", "integer", "boolean", "null"))


@dataclass(frozen=True, slots=True)
class _Function:
    name: str
    description: str
    properties: Fields
    schema: Fields
    format: Fields  # of a custom tool: its grammar


def add_tools(tally: Tally, tools: object) -> None:
    """Add the tools of a chat or Responses request; raises `TypeError` for what is none."""
    if not tools:
        return
    if not is_list(tools):
        raise TypeError(f"tools must be a list of dicts, not {type(tools).__name__}")
    for place, tool in enumerate(tools):
        found = fields(tool)
        if found is None:
            raise TypeError(f"tools[{place}] must be a dict, not {type(tool).__name__}")
        if tally.family.is_claude:
            _add_claude_tool(tally, found)
        else:
            _add_tool(tally, found)
    if tally.family.is_claude:
        tally.rule_of_thumb(_claude_prompt(tally.family))
    else:
        tally.tokens += END


def add_schema(tally: Tally, response_format: object) -> None:
    """Add the schema that an answer must follow; no rule for it is published."""
    found = fields(response_format)
    if found is None or found.get("type") in (None, "text", "json_object"):
        return
    tally.rule_of_thumb(SCHEMA)
    tally.text(compact_json(given(found, "json_schema") or found))


def _add_tool(tally: Tally, tool: Fields) -> None:
    function = _function(tool)
    if function is None:
        tally.leave_out(f"what the tool {tool.get('type')} adds")
        return
    tally.tokens += 10 if tally.family.encoding == "cl100k_base" else 7
    tally.text(f"{function.name}:{function.description.removesuffix('.')}")
    if not tally.family.is_framing_verified or tool.get("type") == "custom":
        tally.rule_of_thumb()
    if function.format:
        tally.text(compact_json(function.format))
    if function.properties:
        tally.tokens += PROPERTIES
    for name, definition in function.properties.items():
        _add_property(tally, name, fields(definition) or {})
    if any(name in function.schema for name in ("$defs", "definitions", "anyOf", "oneOf", "allOf")):
        others = {k: v for k, v in function.schema.items() if k not in ("properties", "required")}
        tally.rule_of_thumb()
        tally.text(compact_json(others))


def _function(tool: Fields) -> _Function | None:
    """A function as chat has it (inside `function`), as Responses has it, or of the old kind."""
    if tool.get("type", "function") not in ("function", "custom"):
        return None
    inner = fields(given(tool, "function")) or fields(given(tool, "custom")) or tool
    schema = fields(given(inner, "parameters")) or {}
    return _Function(
        name=str(given(inner, "name") or ""),
        description=str(given(inner, "description") or ""),
        properties=fields(given(schema, "properties")) or {},
        schema=schema,
        format=fields(given(inner, "format")) or {},
    )


def _add_property(tally: Tally, name: str, definition: Fields) -> None:
    kind = definition.get("type")
    description = str(given(definition, "description") or "")
    tally.tokens += PROPERTY
    tally.text(f"{name}:{kind}:{description.removesuffix('.')}")
    choices = given(definition, "enum")
    if is_list(choices):
        tally.tokens += ENUM
        for choice in choices:
            tally.tokens += ENUM_ITEM
            tally.text(str(choice))
    if kind not in _FLAT:  # the rule is published for flat schemas only
        inner: dict[str, Any] = {
            k: v for k, v in definition.items() if k not in ("type", "description", "enum")
        }
        tally.rule_of_thumb()
        tally.text(compact_json(inner))


def _add_claude_tool(tally: Tally, tool: Fields) -> None:
    kind = str(tool.get("type", "custom"))
    own = next((n for word, n in _CLAUDE_OWN.items() if kind.startswith(f"{word}_")), None)
    if own is not None:
        tally.rule_of_thumb(own)
    elif kind == "custom":
        tally.text(compact_json(tool))
    else:
        tally.leave_out(f"what the tool {kind} adds")


def _claude_prompt(family: Family) -> int:
    return next((n for name, n in _CLAUDE_PROMPT if name in family.name), _CLAUDE_HIGHEST)
