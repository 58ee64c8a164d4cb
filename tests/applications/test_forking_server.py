"""A service whose workers are forked from one that has opened the ledger: nothing hangs or is lost.

Most kinds of workers are replaced after a few requests, so that the server forks all the time.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from ports import free_port
from test_web_service import end, wait_for

from costtrace import CostLedger, budget
from costtrace.testing import LoopbackProvider

httpx = pytest.importorskip("httpx")
pytest.importorskip("gunicorn")

REQUESTS = int(os.environ.get("COSTTRACE_TEST_REQUESTS", "400"))
USERS = 20
REPLACED = ("--max-requests", "20", "--max-requests-jitter", "10")
WORKERS = {
    "sync": REPLACED,
    "gthread": ("--threads", "4", *REPLACED),
    "gevent": ("--worker-connections", "20"),  # each takes seconds to apply gevent's patches
}


@contextmanager
def serving(kind: str, folder: Path, provider: LoopbackProvider) -> Iterator[str]:
    """Run the application in four workers of that kind; yield its address."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "gunicorn", "preloaded:app", "--preload", "-w", "4", "-k", kind),
        *("-b", f"127.0.0.1:{port}", "--log-level", "warning", "--timeout", "60"),
        *WORKERS[kind],
    ]
    environment = {
        **os.environ,
        **provider.environ(),
        "LEDGER": str(folder / "costs.db"),
        "RECORDED": str(folder / "recorded"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "PYTHONWARNINGS": "ignore",
    }
    process = subprocess.Popen(command, env=environment)
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


async def requests(address: str) -> tuple[Counter[str], set[str]]:
    """Send all requests, 16 at a time; return how many each user sent, and who answered."""
    asked = Counter({f"user{n}": 0 for n in range(USERS)})
    workers = set()
    at_once = asyncio.Semaphore(16)
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:

        async def one(number: int) -> None:
            user = f"user{number % USERS}"
            async with at_once:
                answer = await client.get(f"/{user}" + ("?stream" if number % 3 == 0 else ""))
            assert answer.status_code == 200, answer.text
            asked[user] += 1
            workers.add(answer.text)

        await asyncio.gather(*(one(number) for number in range(REQUESTS)))
    return asked, workers


@pytest.mark.parametrize("kind", WORKERS)
def test_workers_that_are_forked_share_the_ledger(
    kind: str, provider: LoopbackProvider, tmp_path: Path
) -> None:
    """Four workers at a time of each kind, and a parent that writes too: totals are exact."""
    if kind == "gevent":
        pytest.importorskip("gevent")
    with serving(kind, tmp_path, provider) as address:
        asked, workers = asyncio.run(requests(address))
        with CostLedger(path=tmp_path / "costs.db") as ledger:
            held = budget("parent", 100, ledger=ledger).reserved_usd
    assert held == Decimal("0.25")
    assert len(workers) >= (4 if kind == "gevent" else 8)
    with CostLedger(path=tmp_path / "costs.db") as ledger:
        calls = {row.key: row.calls for row in ledger.totals("user_id")}
        noted = (tmp_path / "recorded").stat().st_size
        recorded = calls.pop("parent")
        assert recorded in (noted, noted + 1)
        assert calls.pop("warm-up") == 2
        assert calls == asked
        assert len(provider.model_calls) == REQUESTS + 2
        assert {entry.status for entry in ledger.entries} == {"ok"}
        assert ledger.verify() == []
        for user_id in asked:
            assert budget(user_id, 100, window="day", ledger=ledger).reserved_usd == 0
        assert ledger.spent("parent") == Decimal("0.01") * recorded
