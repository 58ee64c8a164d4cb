"""A small HTTP/1.1 server on 127.0.0.1: one thread for each connection, kept alive."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

_BACKLOG = 512
_READ_BYTES = 65536
_JOIN_S = 10.0


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One HTTP request, unparsed beyond its frame; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes


class Connection:
    """One client's socket: whole requests in, bytes out."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unread = bytearray()

    def read_request(self) -> RawRequest | None:
        """The next request; None when the client has closed. `ValueError` if it is no HTTP."""
        head = self._read_until(b"\r\n\r\n")
        if head is None:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        content = self._read_content(headers)
        return None if content is None else RawRequest(method, target, headers, content)

    def send(self, data: bytes) -> None:
        """Send all of `data`; `OSError` when the client has left."""
        self._socket.sendall(data)

    def read(self, size: int) -> bytes | None:
        """Exactly `size` bytes; None when the client closes before."""
        while len(self._unread) < size:
            if not self._receive():
                return None
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def has_left(self) -> bool:
        """Whether the client has closed its side."""
        try:
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def abort(self) -> None:
        """Wake whoever reads or writes here, from any thread."""
        with suppress(OSError):  # the client may have been faster
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _read_content(self, headers: Mapping[str, str]) -> bytes | None:
        if "chunked" not in headers.get("transfer-encoding", ""):
            return self.read(int(headers.get("content-length", "0")))
        content = bytearray()
        while True:
            size = self._read_until(b"\r\n")
            if size is None:
                return None
            chunk = self.read(int(size.split(b";")[0], 16))
            if chunk is None or self._read_until(b"\r\n") is None:
                return None
            if not chunk:
                return bytes(content)
            content += chunk

    def _read_until(self, mark: bytes) -> bytes | None:
        while (end := self._unread.find(mark)) < 0:
            if not self._receive():
                return None
        data = bytes(self._unread[:end])
        del self._unread[: end + len(mark)]
        return data

    def _receive(self) -> bool:
        data = self._socket.recv(_READ_BYTES)
        self._unread += data
        return bool(data)


class Server:
    """Accepts connections and gives each request to `respond` until it is stopped.

    `respond` runs in the connection's thread and returns whether the connection may stay open.
    """

    def __init__(self, respond: Callable[[Connection, RawRequest], bool]) -> None:
        self._respond = respond
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, Connection] = {}
        self._is_stopping = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(
            target=self._accept, name=f"loopback-provider-{self.port}", daemon=True
        )
        self._acceptor.start()

    def stop(self) -> None:
        """Close every socket and wait for every thread; nothing of the server is left."""
        self._is_stopping = True
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(); close() alone does not
        self._acceptor.join(_JOIN_S)
        self._listener.close()
        with self._lock:
            still_open = list(self._open.items())
            for _, connection in still_open:
                connection.abort()
        for thread, _ in still_open:
            thread.join(_JOIN_S)

    def _accept(self) -> None:
        while True:
            try:
                sock, _address = self._listener.accept()
            except OSError:
                if self._is_stopping:
                    return
                continue  # this one client left before it was accepted
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock)
            thread = threading.Thread(
                target=self._serve, args=(connection,), name=f"loopback-{self.port}", daemon=True
            )
            with self._lock:
                self._open[thread] = connection
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            while not self._is_stopping:
                request = connection.read_request()
                if request is None or not self._respond(connection, request):
                    return
        except (OSError, ValueError):
            return  # the client left, or speaks no HTTP
        finally:
            with self._lock:
                del self._open[threading.current_thread()]
                connection.close()


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and headers of an answer."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"  # 529, which no standard names
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
