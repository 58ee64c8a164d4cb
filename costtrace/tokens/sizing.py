"""Adding up a request: a measure for its texts, fixed framing for everything around them.

With UTF-8 bytes as the measure the sum bounds what a provider bills from above: a token covers at
least a byte, and the framing is taken generously. With a tokenizer as the measure it is close.

What the framing rests on: a chat message costs 3 or 4 tokens beside its texts, a Claude message
with one letter 8 in all; Claude's hidden prompt for tools has 159 to 804 tokens; three tool calls
answered at once were billed 232 tokens more than their texts. JSON needs at least a byte for each
bracket, quote and comma, and schemas are rendered no longer than their JSON.

One text is not sent as it is: the results of several tool calls at once reach OpenAI's models as
JSON in ASCII. A Korean result of 30,000 bytes was billed 39,235 tokens so, more than its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from json.encoder import encode_basestring_ascii as json_text
from typing import Any

from costtrace.tokens.families import Family
from costtrace.tokens.images import image_tokens
from costtrace.tokens.reading import Fields, fields, given, is_absent, is_list

Measure = Callable[[str], int]

MESSAGE = 8
PART = 8
NODE = 4
TOOL = 32
TOOLS = {"openai": 128, "anthropic": 1024}
TOOL_CALL = 64
SCHEMA = 512
START = {"openai": 16, "anthropic": 96}
OWN_TOOL = 2048  # Claude's bash (245), text editor (700), computer (735 + 499) and memory tools
SYSTEM = 64
FILE = 1024
MOST_NODES = 500_000  # a structure that holds itself would be read for ever

_TEXTS = """
    text input_text output_text refusal summary_text reasoning_text thinking redacted_thinking
    reasoning compaction web_search_call file_search_call code_interpreter_call local_shell_call
    local_shell_call_output shell_call shell_call_output apply_patch_call apply_patch_call_output
    mcp_call mcp_list_tools mcp_approval_request mcp_approval_response web_search_result
    web_search_tool_result code_execution_tool_result bash_code_execution_tool_result
    text_editor_code_execution_tool_result tool_search_tool_result tool_reference computer_call
"""
_CALLS = "tool_use server_tool_use mcp_tool_use function function_call custom_tool_call custom"
TEXTS = frozenset(_TEXTS.split())
CALLS = frozenset(_CALLS.split())
RESULTS = frozenset(("function_call_output", "custom_tool_call_output"))
NESTED = {  # kind of block -> where it holds further blocks
    "message": "content",
    "tool_result": "content",
    "mcp_tool_result": "content",
    "search_result": "content",
    "function_call_output": "output",
    "custom_tool_call_output": "output",
    "computer_call_output": "output",
}
IMAGES = frozenset(("image_url", "input_image", "image", "computer_screenshot"))
_OWN_TOOLS = ("bash_", "text_editor_", "computer_", "memory_")
_TEXT_FILES = ("data:text/", "data:application/json", "data:application/xml")


class UnboundedError(Exception):
    """Nothing in the request limits how many tokens it has; the message says why.

    `is_countable`: the provider's count endpoint can tell nevertheless.
    """

    def __init__(self, reason: str, *, is_countable: bool = False) -> None:
        super().__init__(reason)
        self.is_countable = is_countable


class Sizing:
    """The running sum over one request; see the module."""

    __slots__ = ("escaped", "family", "measure", "provider", "total")

    def __init__(self, measure: Measure, family: Family, provider: str) -> None:
        self.measure = measure
        self.family = family
        self.provider = provider
        self.total = START[provider]
        self.escaped = lambda text: measure(json_text(text)) - 2

    def messages(self, messages: object) -> None:
        """Add the messages of a chat, of Claude, or the items of a Responses `input`."""
        parallel = False
        for message in _read_again(messages, "messages"):
            found: Fields | None = message if type(message) is dict else fields(message)
            if found is None:
                raise UnboundedError(f"a message is a {type(message).__name__}")
            calls = found.get("tool_calls")
            if found.get("role") == "assistant":
                parallel = is_list(calls) and len(calls) > 1
            self._message(found, parallel)

    def _message(self, message: Fields, parallel: bool) -> None:
        content = message.get("content")
        if type(content) is str and len(message) == 2 and type(message.get("role")) is str:
            self.total += MESSAGE + len(message["role"]) + self.measure(content)
            return
        self.total += MESSAGE
        if "role" not in message:
            if "type" not in message:
                raise UnboundedError("a message refers to one kept by the provider")
            self.blocks([message])  # an item of a Responses `input`
            return
        if given(message, "audio") is not None:
            raise UnboundedError("a message refers to audio of an earlier answer")
        is_result = message.get("role") in ("tool", "function")
        measure = self.escaped if parallel and (is_result or "tool_calls" in message) else None
        if measure is not None:
            self.total += TOOL_CALL
        for name, field in message.items():
            if name == "content" and not isinstance(field, str):
                self.blocks(field, measure)
            elif name == "tool_calls" and is_list(field):
                self.total += TOOL_CALL * len(field)
                self.free(field, measure)
            elif name not in ("type", "id", "status"):
                self.free(field, measure)

    def blocks(self, blocks: object, measure: Measure | None = None) -> None:
        """Add the parts of a content, or the items of a Responses `input`, however deep."""
        waiting = [(blocks, measure or self.measure)]
        nodes = 0
        while waiting:
            block, by = waiting.pop()
            if isinstance(block, str):
                self.total += by(block)
            elif is_list(block):
                nodes = read_on(nodes, block)
                waiting.extend((item, by) for item in block)
            elif not is_absent(block):
                inner = self._block(block, by)
                if inner is not None:
                    nodes = read_on(nodes, (inner,))
                    waiting.append(inner)

    def _block(self, block: object, by: Measure) -> tuple[object, Measure] | None:
        """Add one block; return what it holds of further blocks, and how to measure them."""
        found = fields(block)
        if found is None:
            raise UnboundedError(f"a content holds a {type(block).__name__}")
        kind = found.get("type", "message" if "role" in found else None)
        self.total += PART
        if kind in TEXTS:
            if kind == "text" and len(found) == 2 and type(found.get("text")) is str:
                self.total += by(found["text"])
            else:
                self.free(found, by)
        elif kind in CALLS:
            self.total += TOOL_CALL
            self.free(found, self.escaped)
        elif kind in NESTED:
            return self._nested(found, NESTED[kind], self.escaped if kind in RESULTS else by)
        elif kind in IMAGES:
            self.total += self._image(found)
        else:
            return self._document(found, kind, by)
        return None

    def _nested(self, block: Fields, inner: str, by: Measure) -> tuple[object, Measure]:
        self._refuse_citations(block)
        self.total += TOOL_CALL
        for name, field in block.items():
            if name != inner:
                self.free(field, by)
        return block.get(inner), by

    def _image(self, block: Fields) -> int:
        where = given(block, "image_url")
        address = fields(where) or {}
        source = fields(given(block, "source")) or {}
        detail = str(given(block, "detail") or given(address, "detail") or "auto")
        url = where if isinstance(where, str) else given(address, "url") or given(source, "data")
        is_inline = isinstance(url, str) and (url.startswith("data:") or "data" in source)
        if detail == "auto":  # what it means may change from model to model
            return max(
                image_tokens(self.family, url if is_inline else None, way)
                for way in ("auto", "high")
            )
        return image_tokens(self.family, url if is_inline else None, detail)

    def _document(self, block: Fields, kind: object, by: Measure) -> tuple[object, Measure] | None:
        if kind == "input_audio":
            self._audio(block)
        elif kind in ("file", "input_file"):
            self._file(block)
        elif kind == "document":
            self._refuse_citations(block)
            source = fields(given(block, "source")) or {}
            self.total += FILE
            self.free([given(block, "title"), given(block, "context")])
            if source.get("type") == "text":
                self.free(source.get("data"))
            elif source.get("type") == "content":
                return source.get("content"), by
            else:
                raise _unseen("a document's pages cannot be seen in the request")
        elif kind == "image_generation_call":
            self.total += image_tokens(self.family, None)
        else:
            raise _unseen(f"a block of the kind {kind!r} is not known")
        return None

    def _audio(self, block: Fields) -> None:
        data = given(fields(given(block, "input_audio")) or {}, "data")
        if not isinstance(data, str):
            raise UnboundedError("a message refers to audio that is not in the request")
        # Ten tokens a second, and no format that is taken has less than 320 bytes a second.
        self.total += 64 + len(data) // 32

    def _file(self, block: Fields) -> None:
        file = fields(given(block, "file")) or block
        data = given(file, "file_data")
        if not isinstance(data, str) or not data.startswith(_TEXT_FILES):
            raise _unseen("a file's pages cannot be seen in the request")
        self.total += FILE + len(data)
        self.free(given(file, "filename"))

    def _refuse_citations(self, block: Fields) -> None:
        citations = fields(given(block, "citations"))
        if citations is not None and citations.get("enabled"):
            raise _unseen("how a document is cut for citations is not published")

    def tools(self, tools: object) -> None:
        """Add the tools a model may call; raises `UnboundedError` for those the provider runs."""
        if not is_list(tools) and tools is not None:
            raise UnboundedError("tools are no list")
        if not tools:
            return
        self.total += TOOLS[self.provider]
        for tool in tools:
            found = fields(tool) or {}
            kind = found.get("type")
            if isinstance(kind, str) and kind.startswith(_OWN_TOOLS) and kind[-8:].isdigit():
                self.total += OWN_TOOL
            elif kind not in (None, "function", "custom"):
                raise UnboundedError(f"the provider runs the tool {kind!r} itself, in turns")
            self.total += TOOL
            self.free(found, self.escaped)

    def schema(self, value: object) -> None:
        """Add a schema for the answer, with the words the provider puts around it."""
        found = fields(value) or {}
        if "format" in found or found.get("type") not in (None, "text"):
            self.total += SCHEMA
        self.free(value, self.escaped)

    def free(self, value: object, measure: Measure | None = None) -> None:
        """Add any JSON: its texts by the measure, and so much for each of its values."""
        measure = measure or self.measure
        waiting = [value]
        total = nodes = 0
        while waiting:
            item: Any = waiting.pop()
            if type(item) is str:
                total += NODE + measure(item)
            elif item is None or isinstance(item, (bool, float)):
                total += NODE + 24
            elif isinstance(item, int):
                total += NODE + item.bit_length() // 3 + 2
            elif isinstance(item, str):
                total += NODE + measure(str(item))
            elif is_list(item):
                total += NODE
                nodes = read_on(nodes, item)
                waiting.extend(item)
            elif not is_absent(item):
                total += NODE
                found = fields(item)
                if found is None:
                    raise UnboundedError(f"the request holds a {type(item).__name__}")
                nodes = read_on(nodes, found)
                waiting.extend(found)
                waiting.extend(found.values())
        self.total += total


def _unseen(reason: str) -> UnboundedError:
    return UnboundedError(reason, is_countable=True)


def read_on(nodes: int, further: Sized) -> int:
    """Count what is about to be read, so that it ends."""
    nodes += 1 + len(further)
    if nodes > MOST_NODES:
        raise UnboundedError("the request holds itself, or very many values")
    return nodes


def _read_again(messages: object, what: str) -> Any:
    if not is_list(messages):
        raise UnboundedError(f"the {what} are a {type(messages).__name__}, read only once")
    return messages
