"""The size of an image, read from the first bytes of a PNG, GIF, WebP or JPEG."""

from __future__ import annotations

import binascii
from struct import error as struct_error
from struct import unpack_from

Size = tuple[int, int]  # width, height in pixels

_HEAD = 64  # characters of base64 that hold the size in all but JPEG
_JPEG_HEADS = (1 << 12, 1 << 18)  # a JPEG may begin with a profile and a thumbnail
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))  # JPEG markers that stand alone
_NO_FRAME = frozenset((0xC4, 0xC8, 0xCC))  # among C0 to CF, these hold no size


def size_of(source: str) -> Size | None:
    """Return width and height of a base64 image or data URL; None where it does not tell."""
    text = source
    if source.startswith("data:"):
        _, comma, text = source.partition(";base64,")
        if not comma:
            return None
    try:
        size = _size(_decoded(text, _HEAD))
        if size is None and text.startswith("/9j/"):
            size = _jpeg_size(text)
    except (ValueError, IndexError, struct_error):
        return None
    return size if size is not None and min(size) > 0 else None


def _decoded(text: str, length: int) -> bytes:
    part = text[:length]
    return binascii.a2b_base64(part[: len(part) // 4 * 4])


def _size(head: bytes) -> Size | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        width, height = unpack_from(">II", head, 16)
        return width, height
    if head.startswith((b"GIF87a", b"GIF89a")):
        width, height = unpack_from("<HH", head, 6)
        return width, height
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp(head)
    return None


def _webp(head: bytes) -> Size | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return (
            1 + int.from_bytes(head[24:27], "little"),
            1 + int.from_bytes(head[27:30], "little"),
        )
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg_size(text: str) -> Size | None:
    try:
        return _jpeg(_decoded(text, _JPEG_HEADS[0]))
    except (IndexError, struct_error):
        return _jpeg(_decoded(text, _JPEG_HEADS[1]))


def _jpeg(data: bytes) -> Size | None:
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # filling
            place += 1
        elif marker in _WITHOUT_LENGTH:
            place += 2
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            height, width = unpack_from(">HH", data, place + 5)
            return width, height
        else:
            (length,) = unpack_from(">H", data, place + 2)
            place += 2 + length
    return None
