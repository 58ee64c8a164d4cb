"""From the bytes of a request to the record a test reads."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from costtrace.testing.connection import RawRequest
from costtrace.testing.log import REDACTED, Received, Upload

_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "x-amz-security-token"})


def receive(raw: RawRequest) -> Received:
    """The request as a record, its keys replaced."""
    target = urlsplit(raw.target)
    headers = {
        name: REDACTED if name in _SECRET_HEADERS else value for name, value in raw.headers.items()
    }
    body, files = _content(raw)
    return Received(
        raw.method,
        unquote(target.path),
        dict(parse_qsl(target.query, keep_blank_values=True)),
        headers,
        body,
        files,
    )


def _content(raw: RawRequest) -> tuple[Any, tuple[Upload, ...]]:
    content_type = raw.headers.get("content-type", "")
    if not raw.content:
        return None, ()
    if content_type.startswith("multipart/"):
        return _form(raw.content, content_type)
    try:
        return json.loads(raw.content), ()
    except ValueError:
        return None, ()


def _form(content: bytes, content_type: str) -> tuple[dict[str, Any], tuple[Upload, ...]]:
    """Fields (`name[]` becomes a list) and files of a multipart form."""
    match = re.search(r'boundary="?([^";]+)', content_type)
    if match is None:
        return {}, ()
    fields: dict[str, Any] = {}
    files = []
    for part in content.split(b"--" + match[1].encode("latin-1"))[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        data = data.removesuffix(b"\r\n")
        name = _parameter(head, "name") or ""
        filename = _parameter(head, "filename")
        if filename is not None:
            files.append(Upload(name, filename, data))
        elif name.endswith("[]"):
            fields.setdefault(name[:-2], []).append(data.decode())
        else:
            fields[name] = data.decode()
    return fields, tuple(files)


def _parameter(head: bytes, name: str) -> str | None:
    match = re.search(rf'[; ]{name}="([^"]*)"', head.decode("utf-8", "replace"))
    return None if match is None else match[1]
