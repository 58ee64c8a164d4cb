"""Counting the contents of messages: texts, images, audio, files, tool calls and their results."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as json_text

from costtrace.tokens.images import image_tokens
from costtrace.tokens.reading import Fields, compact_json, fields, given, is_absent, is_list
from costtrace.tokens.tally import Tally

CALL = 4  # around name and arguments of a call; this and the next two follow a published example
PARALLEL = 22  # several calls in one message are wrapped once more,
PARALLEL_CALL = 3  # and each of them after the first
RESULT = 8
DEEPEST = 100
PAGE_TEXT = 800  # tokens of text on a page of a PDF, beside its picture
BYTES_PER_PAGE = 50_000  # where the pages of a PDF cannot be seen
AUDIO_TOKENS_PER_S = 10
AUDIO_BYTES_PER_S = 4_000  # 32 kbit/s

_TEXTS = {  # kind of block -> fields that hold text the model reads
    "text": ("text",),
    "input_text": ("text",),
    "output_text": ("text",),
    "summary_text": ("text",),
    "reasoning_text": ("text",),
    "refusal": ("refusal",),
    "thinking": ("thinking",),
}
_CALLS = frozenset(
    ("tool_use", "server_tool_use", "mcp_tool_use", "function_call", "custom_tool_call")
)
_RESULTS = {
    "tool_result": "content",
    "mcp_tool_result": "content",
    "function_call_output": "output",
    "custom_tool_call_output": "output",
    "computer_call_output": "output",
}
_IMAGES = frozenset(("image_url", "input_image", "image", "computer_screenshot"))


def add_content(tally: Tally, content: object, *, escaped: bool = False, depth: int = 0) -> None:
    """Add what a message says: a text, or parts of many kinds.

    `escaped` is for the results of several tool calls at once, which OpenAI puts into the prompt as
    JSON, every letter outside ASCII as an escape of six signs.
    """
    if depth > DEEPEST:
        raise ValueError("messages nested this deeply cannot be counted")
    if isinstance(content, str):
        tally.text(json_text(content) if escaped else content)
    elif is_list(content):
        for part in content:
            add_content(tally, part, escaped=escaped, depth=depth + 1)
    elif not is_absent(content):
        found = fields(content)
        if found is None:
            raise TypeError(
                f"a content must be text or a list of parts, not {type(content).__name__}"
            )
        _add_part(tally, found, escaped, depth)


def _add_part(tally: Tally, part: Fields, escaped: bool, depth: int) -> None:
    kind = part.get("type")
    if kind in _TEXTS:
        for name in _TEXTS[str(kind)]:
            add_content(tally, given(part, name), escaped=escaped, depth=depth + 1)
    elif kind in _CALLS:
        add_call(tally, part.get("name"), part.get("input", part.get("arguments")))
    elif kind in _RESULTS:
        tally.rule_of_thumb(RESULT)
        inner = given(part, _RESULTS[str(kind)])
        add_content(tally, inner, escaped=escaped, depth=depth + 1)
    elif kind in _IMAGES:
        tally.rule_of_thumb(_image(tally, part))
    elif kind == "input_audio":
        _add_audio(tally, part)
    elif kind in ("file", "input_file", "document"):
        _add_file(tally, part, depth)
    elif kind == "reasoning":
        add_content(tally, given(part, "summary"), depth=depth + 1)
    else:
        tally.leave_out(str(kind))


def add_call(tally: Tally, name: object, arguments: object) -> None:
    """Add a tool call that the model made earlier: its name, its arguments, some framing."""
    tally.rule_of_thumb(CALL)
    tally.text(name)
    if not is_absent(arguments):
        tally.text(arguments if isinstance(arguments, str) else compact_json(arguments))


def _image(tally: Tally, part: Fields) -> int:
    where = given(part, "image_url")
    address = fields(where) or {}
    source = fields(given(part, "source")) or {}
    detail = str(given(part, "detail") or given(address, "detail") or "auto")
    if source:
        data = given(source, "data")
    else:
        url = where if isinstance(where, str) else given(address, "url")
        data = url if isinstance(url, str) and url.startswith("data:") else None
    return image_tokens(tally.family, data if isinstance(data, str) else None, detail)


def _add_audio(tally: Tally, part: Fields) -> None:
    data = given(fields(given(part, "input_audio")) or {}, "data")
    if not isinstance(data, str):
        tally.leave_out("audio by its id")
        return
    seconds = len(data) * 3 // 4 / AUDIO_BYTES_PER_S
    tally.rule_of_thumb(int(seconds * AUDIO_TOKENS_PER_S) + 1)


def _add_file(tally: Tally, part: Fields, depth: int) -> None:
    file = fields(given(part, "file")) or fields(given(part, "source")) or part
    data = given(file, "file_data") or given(file, "data")
    if is_list(given(file, "content")):
        add_content(tally, file["content"], depth=depth + 1)
    elif not isinstance(data, str):
        tally.leave_out("a file by its id or address")
    elif file.get("type") == "text":
        tally.text(data)
    elif data.startswith(("data:text/", "data:application/json")):
        tally.rule_of_thumb()
        tally.text(_decoded(data))
    else:
        pages = _pages(data)
        tally.rule_of_thumb(pages * (PAGE_TEXT + image_tokens(tally.family, None, "high")))
    for name in ("title", "context", "filename"):
        tally.text(given(part, name) or given(file, name))


def _decoded(url: str) -> str:
    import binascii

    _, _, data = url.partition(",")
    try:
        return binascii.a2b_base64(data).decode("utf-8", "replace")
    except binascii.Error:
        return data


def _pages(data: str) -> int:
    """How many pages a PDF seems to have."""
    import binascii
    import re

    try:
        content = binascii.a2b_base64(data.rpartition(",")[2])
    except binascii.Error:
        return 1
    seen = len(re.findall(rb"/Type\s*/Page(?![a-zA-Z])", content))
    return seen or 1 + len(content) // BYTES_PER_PAGE
