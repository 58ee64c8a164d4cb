"""Images: their size from their first bytes, their tokens from the published rules."""

from __future__ import annotations

import base64
import struct
import zlib

import pytest

from costtrace.tokens import count_message_tokens


def png(width: int, height: int) -> bytes:
    """A whole PNG, black."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    rows = zlib.compress(bytes(((width + 7) // 8 + 1) * height), 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    """The head of a GIF."""
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(60)


def jpeg(width: int, height: int, before: int = 0) -> bytes:
    """The head of a JPEG, with a thumbnail of another size inside what comes before the frame."""
    thumbnail = b"\xff\xc0" + struct.pack(">HBHH", 11, 8, 16, 16)
    application = thumbnail + bytes(before)
    parts = [b"\xff\xd8"]
    while True:
        part, application = application[:60_000], application[60_000:]
        parts.append(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part)
        if not application:
            break
    parts.append(b"\xff\xc2" + struct.pack(">HBHH", 11, 8, height, width) + bytes(40))
    return b"".join(parts)


def webp(kind: str, width: int, height: int) -> bytes:
    """The head of a WebP of each of its three kinds."""
    if kind == "VP8X":
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        body = b"VP8X" + bytes(8) + size
    elif kind == "VP8L":
        bits = (width - 1) | (height - 1) << 14
        body = b"VP8L" + bytes(4) + b"\x2f" + bits.to_bytes(4, "little")
    else:
        body = b"VP8 " + bytes(7) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + bytes(4) + b"WEBP" + body + bytes(40)


def tokens(model: str, image: bytes | None, detail: str = "high") -> int:
    """What an image adds to a message without it."""
    url = "https://example.com/image"
    if image is not None:
        url = "data:image/any;base64," + base64.b64encode(image).decode()
    part = {"type": "image_url", "image_url": {"url": url, "detail": detail}}
    empty: list[object] = []
    bare = count_message_tokens([{"role": "user", "content": empty}], model)
    return count_message_tokens([{"role": "user", "content": [part]}], model) - bare


@pytest.mark.parametrize(
    ("model", "width", "height", "detail", "expected"),
    [
        # OpenAI's vision guide: tiles.
        ("gpt-4o", 1024, 1024, "high", 765),
        ("gpt-4o", 2048, 4096, "high", 1105),
        ("gpt-4o", 4096, 8192, "low", 85),
        ("gpt-4.1", 1024, 1024, "high", 765),
        ("gpt-4o-mini", 1024, 1024, "high", 2833 + 4 * 5667),
        ("o1", 1024, 1024, "high", 75 + 4 * 150),
        ("gpt-5", 1024, 1024, "high", 70 + 4 * 140),
        ("gpt-4o", 512, 512, "high", 85 + 170),
        # OpenAI's vision guide: patches. 1024 and 1452 of them, times the model's factor.
        ("gpt-4.1-mini", 1024, 1024, "high", 1659),
        ("gpt-4.1-mini", 1800, 2400, "high", 2353),
        ("gpt-4.1-nano", 1800, 2400, "high", 3572),
        ("o4-mini", 1024, 1024, "high", 1762),
        ("gpt-5-mini", 1024, 1024, "high", 1659),
        # Newer ones: read by others off the same guide.
        ("gpt-6-astra", 640, 480, "high", 360),
        ("gpt-6-astra", 640, 480, "low", 231),
        ("gpt-6-astra", 1280, 720, "low", 173),
        ("gpt-6-astra", 3200, 960, "auto", 3600),
        ("gpt-5.4", 3200, 3200, "original", 12_000),
    ],
)
def test_published_examples(
    model: str, width: int, height: int, detail: str, expected: int
) -> None:
    """Size, detail and model give the tokens of the vision guide's examples."""
    assert tokens(model, png(width, height), detail) == expected


@pytest.mark.parametrize(
    ("model", "width", "height", "least", "most"),
    [
        ("claude-sonnet-4-5", 200, 200, 54, 64),
        ("claude-sonnet-4-5", 1000, 1000, 1296, 1334),
        ("claude-sonnet-4-5", 4000, 3000, 1560, 1640),
        ("claude-opus-4-7", 1932, 1932, 4761, 4832),
        ("claude-opus-4-7", 8000, 8000, 4761, 4832),
    ],
)
def test_claude_images(model: str, width: int, height: int, least: int, most: int) -> None:
    """Within what the guide says and others measured."""
    assert least <= tokens(model, png(width, height)) <= most


@pytest.mark.parametrize(
    "image",
    [
        png(1024, 1024),
        gif(1024, 1024),
        jpeg(1024, 1024),
        jpeg(1024, 1024, before=100_000),
        webp("VP8X", 1024, 1024),
        webp("VP8L", 1024, 1024),
        webp("VP8 ", 1024, 1024),
    ],
)
def test_size_is_read_from_every_format(image: bytes) -> None:
    """Also behind a long profile, and not from the thumbnail in it."""
    assert tokens("gpt-4o", image) == 765


@pytest.mark.parametrize(
    "image",
    [None, b"", b"no image at all", png(10, 10)[:20], jpeg(9, 9)[:8], gif(0, 0), b"\xff\xd8" * 9],
)
def test_image_of_unknown_size_counts_as_the_largest(image: bytes | None) -> None:
    """An address, a broken image: eight tiles are the most there can be."""
    assert tokens("gpt-4o", image) == 85 + 8 * 170


def test_images_of_responses_and_of_claude_are_found() -> None:
    """Each provider writes an image in its own way."""
    data = base64.b64encode(png(1024, 1024)).decode()
    of_responses = {"type": "input_image", "image_url": f"data:image/png;base64,{data}"}
    of_claude = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": data},
    }

    assert 765 < count_message_tokens([{"role": "user", "content": [of_responses]}], "gpt-4o") < 800
    count = count_message_tokens([{"role": "user", "content": [of_claude]}], "claude-opus-5")
    assert 1369 < count < 1450
