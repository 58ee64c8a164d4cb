"""The server's side of a WebSocket (RFC 6455): text messages over an HTTP connection."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping

from costtrace.testing.connection import Connection, head

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL = 0x80


def wants_websocket(headers: Mapping[str, str]) -> bool:
    """Whether a request asks to turn its connection into a WebSocket."""
    return headers.get("upgrade", "").lower() == "websocket" and "sec-websocket-key" in headers


class WebSocket:
    """Text messages from and to one client."""

    def __init__(self, client: Connection) -> None:
        self.client = client

    def accept(self, headers: Mapping[str, str]) -> None:
        """Agree to the client's request for a WebSocket."""
        key = headers["sec-websocket-key"] + _GUID
        proof = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.client.send(
            head(
                101,
                {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": proof},
            )
        )

    def receive(self) -> bytes | None:
        """The next message; None once the client has closed."""
        message = bytearray()
        while (frame := self._read_frame()) is not None:
            kind, is_final, payload = frame
            if kind == _CLOSE:
                self._send_frame(_CLOSE, payload)
                return None
            if kind == _PING:
                self._send_frame(_PONG, payload)
            elif kind in (_TEXT, _BINARY, _CONTINUATION):
                message += payload
                if is_final:
                    return bytes(message)
        return None

    def send(self, message: bytes) -> None:
        """Send one text message; `OSError` when the client has left."""
        self._send_frame(_TEXT, message)

    def _read_frame(self) -> tuple[int, bool, bytes] | None:
        start = self.client.read(2)
        if start is None:
            return None
        size = start[1] & 0x7F
        if size >= 126:
            width, form = (2, "!H") if size == 126 else (8, "!Q")
            extended = self.client.read(width)
            if extended is None:
                return None
            size = struct.unpack(form, extended)[0]
        mask = self.client.read(4)  # a client always masks
        data = self.client.read(size)
        if mask is None or data is None:
            return None
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        payload = (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")
        return start[0] & 0x0F, bool(start[0] & _FINAL), payload

    def _send_frame(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            lengths = struct.pack("!B", size)
        elif size < 1 << 16:
            lengths = struct.pack("!BH", 126, size)
        else:
            lengths = struct.pack("!BQ", 127, size)
        self.client.send(bytes([_FINAL | kind]) + lengths + payload)
