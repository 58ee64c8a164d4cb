"""A network line between a client and a server that can be made to keep what it carries."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class SlowLine:
    """Listens on a port of its own and passes everything on to another one, both ways.

    While `keeps_answers` is set nothing comes back; `keep_questions` stops what those who are
    connected now say, until `pass_on`.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.answers = threading.Event()
        self.answers.set()
        self._questions: list[threading.Event] = []
        self._ends: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def keep_questions(self) -> None:
        """Keep what the present connections say from now on."""
        for questions in self._questions:
            questions.clear()

    def pass_on(self) -> None:
        """Let everything pass that was kept."""
        self.answers.set()
        for questions in self._questions:
            questions.set()

    def close(self) -> None:
        """Cut all connections."""
        self.pass_on()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                questions = threading.Event()
                questions.set()
                self._questions.append(questions)
                self._ends += [client, server]
                for source, target, gate in (
                    (client, server, questions),
                    (server, client, self.answers),
                ):
                    threading.Thread(
                        target=self._carry, args=(source, target, gate), daemon=True
                    ).start()

    def _carry(self, source: socket.socket, target: socket.socket, gate: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                gate.wait()
                target.sendall(data)
        gate.wait()
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
