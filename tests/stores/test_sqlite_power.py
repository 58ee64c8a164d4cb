"""A power cut takes nothing that was acknowledged: cuts are played back from a log of the disk."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from power import Disk, Left, compiled, events

from costtrace.stores import SQLiteStore

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CUTS = int(os.environ.get("COSTTRACE_TEST_POWER_CUTS", "20"))
CALLS = 250
WORK = """
import os, sys
from store_calls import ALICE, entry, hold, limit
from costtrace.stores import SQLiteStore
folder, synchronous, calls = sys.argv[1:]
store = SQLiteStore(f"{folder}/ledger.db", synchronous=synchronous)
said = os.open(f"{folder}/said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(said, b"opened\\n")
for number in range(int(calls)):
    call = entry(number, call_id=f"{number}")
    store.reserve(hold(call, limit(10**9)))
    os.write(said, b"held %d\\n" % number)
    store.settle(call, ALICE)
    os.write(said, b"settled %d\\n" % number)
os._exit(0)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What logs."""
    return compiled(tmp_path_factory.mktemp("disk_log"))


def logged(library: Path, folder: Path, synchronous: str) -> Path:
    """Work on a ledger until the end without closing it; return the log of the disk."""
    folder.mkdir()
    log = folder.with_suffix(".log")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
        "LD_PRELOAD": str(library),
        "DISK_LOG_FOLDER": str(folder),
        "DISK_LOG_FILE": str(log),
    }
    words = [sys.executable, "-c", WORK, folder, synchronous, CALLS]
    subprocess.run(list(map(str, words)), check=True, env=environment, timeout=120)
    return log


def lost_by_cut(log: Path, folder: Path, left: Left) -> tuple[list[int], float]:
    """Cut the power at many moments; return how many settled calls each took, and syncs a step."""
    chance = random.Random(CUTS)
    all_events = list(events(log))
    opened = next(n for n, event in enumerate(all_events) if event.data == b"opened\n")
    moments = set(chance.sample(range(opened + 1, len(all_events)), CUTS - 1))
    moments.add(len(all_events) - 1)
    disk, said, lost, syncs_before = Disk(), [], [], 0
    for moment, event in enumerate(all_events):
        if event.name == "said":
            said.append(event.data.decode().split())
        elif not event.name.endswith((".lock", "-shm")):
            disk.take(event)
        if moment == opened:
            syncs_before = disk.syncs
        if moment in moments:
            image = folder / f"{left}-{moment}"
            image.mkdir(parents=True)
            disk.cut(image, left, chance)
            lost.append(_lost(image / "ledger.db", said))
    return lost, (disk.syncs - syncs_before) / (2 * CALLS)


def _lost(path: Path, said: list[list[str]]) -> int:
    store = SQLiteStore(path)
    assert store.verify() == []
    entered = {call.call_id for call in store.entries()}
    held = {hold.entry.call_id for hold in store.standing()}
    store.close()
    settled = {words[1] for words in said if words[0] == "settled"}
    last_held = {words[1] for words in said[-1:] if words[0] == "held"}
    missed = settled - entered
    if not missed and not last_held <= held | entered:
        return 1
    return len(missed)


@pytest.mark.parametrize("left", ["gone", "torn", "kept"])
def test_power_cut_takes_nothing_that_was_acknowledged(
    library: Path, tmp_path: Path, left: Left
) -> None:
    """With synchronous=FULL each commit is synced, and every call is there after any cut."""
    log = logged(library, tmp_path / "work", "FULL")

    lost, syncs = lost_by_cut(log, tmp_path / "images", left)

    assert lost == [0] * CUTS
    assert syncs >= 1.0


def test_faster_setting_may_lose_the_latest_calls_and_nothing_else(
    library: Path, tmp_path: Path
) -> None:
    """With NORMAL the ledger is whole, but shorter: the cuts above are cuts."""
    log = logged(library, tmp_path / "work", "NORMAL")

    lost, syncs = lost_by_cut(log, tmp_path / "images", "gone")
    torn, _ = lost_by_cut(log, tmp_path / "images", "torn")

    assert max(lost) > 5
    assert max(torn) > 0
    assert syncs < 0.2
