"""Answers that do not say what they used: charged at what they may have cost, never at nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import openai
import pytest

from costtrace import CostLedger, budget
from costtrace.testing import OMITTED, LoopbackProvider, Reply
from costtrace.usage import Usage

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SOUND = b"RIFF" + b"\0" * 6396  # 9 seconds at most, at 750 bytes a second


def sound() -> Any:
    return ("a.wav", io.BytesIO(SOUND))


CALLS: dict[str, tuple[Callable[[Any], Any], Usage, Decimal]] = {
    "whisper, text": (
        lambda c: c.audio.transcriptions.create(
            model="whisper-1", file=sound(), response_format="text"
        ),
        Usage(output_tokens=2),
        Decimal("0.0009"),  # 9 seconds at 0.006 a minute
    ),
    "whisper, subtitles": (
        lambda c: c.audio.translations.create(
            model="whisper-1", file=sound(), response_format="srt"
        ),
        Usage(output_tokens=21),
        Decimal("0.0009"),
    ),
    "transcribed by tokens, text": (
        lambda c: c.audio.transcriptions.create(
            model="gpt-4o-transcribe", file=sound(), response_format="text"
        ),
        Usage(output_tokens=2),
        Decimal("0.116"),  # all 16,000 and 2,000 tokens that the model takes and gives
    ),
    "speech by tokens": (
        lambda c: c.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="Hello"),
        Usage(characters=5),
        Decimal("0.003651"),  # 85 tokens at 0.60, and 15 seconds of 20 tokens at 12
    ),
    "an image": (
        lambda c: c.images.generate(model="gpt-image-1", prompt="A cat"),
        Usage(images=1),
        Decimal("0.25045"),  # 6,240 tokens, the largest, at 40, and 85 at 10
    ),
}


@pytest.mark.parametrize("limit", [None, 50])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_whose_usage_nobody_tells_costs_its_worst_case(
    name: str, limit: int | None, provider: LoopbackProvider, openai_client: Any, ledger: CostLedger
):
    """With a limit and without one; its tokens are those that are known, not those it bounds."""
    call, usage, cost = CALLS[name]
    provider.default = Reply(usage=OMITTED)
    with budget("alice", limit, ledger=ledger) as b:
        call(openai_client)
    (entry,) = ledger.entries
    assert (entry.status, entry.grade, entry.cost_usd) == ("ok", "assumed", cost)
    assert entry.usage == usage
    assert b.spent_usd == cost


@pytest.mark.parametrize("name", CALLS)
def test_a_call_whose_fate_is_unknown_invents_no_million_tokens(
    name: str, provider: LoopbackProvider, openai_client: Any, ledger: CostLedger
):
    """A cut connection: the same worst case."""
    call, _, cost = CALLS[name]
    provider.default = Reply(cut_before_headers=True)
    with pytest.raises(openai.APIConnectionError), budget("alice", 50, ledger=ledger):
        call(openai_client)
    (entry,) = ledger.entries
    assert (entry.status, entry.grade, entry.cost_usd) == ("partial", "assumed", cost)
    assert entry.usage.total_tokens < 7000


def test_a_prompt_that_the_provider_makes_longer_counts_as_what_was_sent(
    provider: LoopbackProvider, openai_client: Any, ledger: CostLedger
):
    """The cost is that of a full context; the tokens are the prompt's own and the output's cap."""
    provider.default = Reply(cut_before_headers=True)
    with pytest.raises(openai.APIConnectionError), budget("alice", 50, ledger=ledger):
        openai_client.responses.create(
            model="gpt-4o", input="Hi", tools=[{"type": "web_search"}], max_output_tokens=100
        )
    (entry,) = ledger.entries
    assert entry.cost_usd == Decimal("0.521")  # 128,000 in at 2.50, 100 out at 10, 20 searches
    assert entry.completion_tokens == 100
    assert 0 < entry.prompt_tokens < 50


def test_what_is_billed_by_the_second_takes_no_tokens_of_a_budget(
    provider: LoopbackProvider, openai_client: Any, ledger: CostLedger
):
    """A limit of tokens does not hold up what has none."""
    with budget("alice", 1, max_tokens=10, ledger=ledger):
        openai_client.audio.transcriptions.create(model="whisper-1", file=sound())
        openai_client.audio.speech.create(model="tts-1", voice="alloy", input="Hello")
    assert [entry.usage.total_tokens for entry in ledger.entries] == [0, 0]
