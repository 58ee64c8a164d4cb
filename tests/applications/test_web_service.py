"""A web service under load: every entry stands under the user whose request made it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from waiting import wait_until

from costtrace import CostLedger
from costtrace.testing import LoopbackProvider

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

REQUESTS = int(os.environ.get("COSTTRACE_TEST_REQUESTS", "400"))
USERS = 50
CALLS = {"sync": 2, "async": 2, "background": 1, "stream": 1}
SERVERS = {
    "uvicorn": ["uvicorn", "service:app", "--port", "{port}", "--log-level", "warning"],
    "gunicorn": [
        *("gunicorn", "service:app", "-k", "uvicorn.workers.UvicornWorker", "-w", "2"),
        *("-b", "127.0.0.1:{port}", "--log-level", "warning"),
    ],
}


@contextmanager
def serving(server: str, ledger: Path, provider: LoopbackProvider) -> Iterator[str]:
    """Run the application in its own process; yield its address."""
    port = free_port()
    command = [sys.executable, "-m", *(part.format(port=port) for part in SERVERS[server])]
    environment = {
        **os.environ,
        **provider.environ(),
        "LEDGER": str(ledger),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "PYTHONWARNINGS": "ignore",
    }
    process = subprocess.Popen(command, env=environment)
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when it accepts connections."""

    def accepts() -> bool:
        assert process.poll() is None, "the server has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(accepts)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to end, and see that it does."""
    process.terminate()
    try:
        process.wait(60)
    finally:
        process.kill()
        process.wait()


async def requests(address: str) -> list[tuple[str, str]]:
    """Send all requests, 16 at a time; return which user asked for what."""
    asked = [(f"user{n % USERS}", list(CALLS)[n % len(CALLS)]) for n in range(REQUESTS)]
    at_once = asyncio.Semaphore(16)
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:

        async def one(user: str, kind: str) -> None:
            async with at_once:
                answer = await client.get(f"/{kind}", headers={"x-user": user})
            assert answer.status_code == 200, answer.text

        await asyncio.gather(*(one(*each) for each in asked))
    return asked


@pytest.mark.parametrize("server", SERVERS)
def test_every_entry_stands_under_its_user(server: str, provider: LoopbackProvider, tmp_path: Path):
    """Sync and async endpoints, background tasks and streams, many users at once, one file."""
    pytest.importorskip(server)
    path = tmp_path / "costs.db"
    with serving(server, path, provider) as address:
        asked = asyncio.run(requests(address))

    expected = Counter()
    for user, kind in asked:
        expected[user] += CALLS[kind]
    with CostLedger(path=path) as ledger:
        assert {row.key: row.calls for row in ledger.totals("user_id")} == expected
        assert {row.key for row in ledger.totals("function_name")} == {
            *("ask_both", "ask_both_async", "ask_later", "spoken"),
        }
        assert {entry.status for entry in ledger.entries} == {"ok"}
        assert len(provider.model_calls) == sum(expected.values())
        assert ledger.verify() == []
        assert_nothing_reserved(ledger)


def assert_nothing_reserved(ledger: CostLedger) -> None:
    from costtrace import budget

    for n in range(USERS):
        b: Any = budget(f"user{n}", 100, window="day", ledger=ledger)
        assert b.reserved_usd == 0
