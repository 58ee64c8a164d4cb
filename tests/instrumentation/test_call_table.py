"""Every call in every shape, sync and async: one exact entry, nothing changed for the caller."""

from __future__ import annotations

import json
import os
from typing import Any

import anthropic
import openai
import pytest
from call_table import (
    CALLS,
    SHAPES,
    CallCase,
    Client,
    Pair,
    cells,
    is_counted_here,
    run,
    supports,
)
from sdk_matrix.__main__ import PAIRS, README, in_readme

from costtrace import CostLedger, budget
from costtrace.testing import LoopbackProvider

CELLS = [pytest.param(case, shape, id=f"{case.name}-{shape}") for case, shape in cells()]


async def _perform(client: Client, case: CallCase, shape: str) -> Any:
    try:
        return await SHAPES[shape](client, case)
    finally:
        if client.is_async:
            await client.client.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Pydantic serializer:UserWarning")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("case", "shape"), CELLS)
def test_a_call_is_one_exact_entry(
    case: CallCase, shape: str, is_async: bool, provider: LoopbackProvider, ledger: CostLedger
):
    """What the caller gets is what it gets without us; what is entered is what was used."""
    pair = Pair(provider, is_async)
    accessor = "with_raw_response" if shape.startswith("raw") else ""
    accessor = "with_streaming_response" if shape.startswith("streaming") else accessor
    if not supports(pair.client(case.sdk), case.path, accessor):
        pytest.skip(f"not in openai {openai.__version__}, anthropic {anthropic.__version__}")
    provider.default = case.reply
    without = run(_perform(pair.client(case.sdk), case, shape), is_async=is_async)

    with budget("alice", ledger=ledger):
        seen = run(_perform(pair.client(case.sdk), case, shape), is_async=is_async)

    assert seen == without
    (entry,) = ledger.entries
    assert (entry.provider, entry.operation) == (case.sdk, case.operation)
    assert (entry.model, entry.user_id, entry.status) == (case.model, "alice", "ok")
    assert entry.streamed is ("stream" in shape.replace("streaming .", ""))
    if is_counted_here(case, shape):
        assert entry.grade == "estimated"
        assert 0 < entry.completion_tokens <= 30
        assert 0 < entry.prompt_tokens <= 30
        assert entry.cost_usd or case.cost is None
    else:
        assert entry.usage == case.usage
        grade = "unpriced" if case.cost is None else "reported"
        assert (entry.cost_usd, entry.grade) == (case.cost, grade)
    _note(case, shape, is_async)


def test_the_readmes_table_has_a_row_for_each_call_and_a_column_for_each_pair():
    """Its numbers are compared with what has passed where all pairs are run."""
    head, _, *rows, total = in_readme(README.read_text()).splitlines()
    names = [row.split("`")[1] for row in rows]
    assert sorted(names) == sorted({case.name for case in CALLS})
    assert [cell.strip() for cell in head.split("|")[2:-1]] == [pair.name for pair in PAIRS]
    columns = [[cell.strip() for cell in row.split("|")[2:-1]] for row in (*rows, total)]
    for *counts, whole in zip(*columns, strict=True):
        assert sum(int(count) for count in counts if count != "-") == int(whole)


def _note(case: CallCase, shape: str, is_async: bool) -> None:
    """Write a cell of the README's table, where a run over several SDKs asks for it."""
    if path := os.environ.get("COSTTRACE_TABLE"):
        cell = {"call": case.name, "sdk": case.sdk, "shape": shape, "is_async": is_async}
        with open(path, "a") as file:
            file.write(json.dumps(cell) + "\n")
