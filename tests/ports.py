"""Ports for servers that are started after theirs was chosen, or started again."""

from __future__ import annotations

import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
chance = random.SystemRandom()  # processes that test in parallel share the seed of the other one


def free_port() -> int:
    """Return a port that nobody uses, and that the system gives to no outgoing connection.

    Else somebody's connection might have it while its server is not there, even the one of a client
    that asks for the server again and again and so comes to talk to itself.
    """
    first, last = map(int, RANGE.read_text().split()) if RANGE.exists() else (32768, 60999)
    outside = range(10_000, first) if first > 12_000 else range(last + 1, 65_536)
    while True:
        port = chance.choice(outside)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
