"""Several models are asked the same: what each costs, how right it is, and who is charged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from costtrace import (
    Comparison,
    CostLedger,
    acompare_models,
    budget,
    compare_models,
    configure,
    tracked,
)
from costtrace.api import Answer, ModelRow
from costtrace.testing import LoopbackProvider, Received, Reply

GPT, MINI, CLAUDE = "gpt-4o", "gpt-4o-mini", "claude-haiku-4-5"
# 100 input and 20 output tokens at the list prices of each model, in USD
COSTS = {GPT: Decimal("0.00045"), MINI: Decimal("0.000027"), CLAUDE: Decimal("0.0002")}
ANSWERS = {GPT: "The capital is Paris.", MINI: "London", CLAUDE: "PARIS"}

Compare = Callable[..., Comparison]


@pytest.fixture(autouse=True)
def _models_that_differ(provider: LoopbackProvider) -> None:
    def answer(received: Received) -> Reply:
        text = ANSWERS.get(received.body["model"], "")
        return Reply(text=text, input_tokens=100, output_tokens=20)

    provider.script(answer)


@pytest.fixture
def clients(openai_client: Any, anthropic_client: Any) -> list[Any]:
    return [openai_client, anthropic_client]


def in_async(provider: LoopbackProvider, *args: Any, **options: Any) -> Comparison:
    """Compare with async clients, in an event loop of its own."""

    async def work() -> Comparison:
        clients = [provider.async_openai(max_retries=0), provider.async_anthropic(max_retries=0)]
        try:
            return await acompare_models(*args, client=clients, **options)
        finally:
            for client in clients:
                await client.close()

    return asyncio.run(work())


@pytest.fixture(params=["sync", "async"])
def compare(request: pytest.FixtureRequest, provider: LoopbackProvider, clients: Any) -> Compare:
    """Both ways, with clients of both providers."""
    if request.param == "sync":
        return lambda *args, **options: compare_models(*args, client=clients, **options)
    return lambda *args, **options: in_async(provider, *args, **options)


# What the rows say


def test_models_of_both_providers_stand_in_one_table(compare: Compare, ledger: CostLedger):
    """Cost, tokens and correctness of each, in the order in which they were named."""
    found = compare([GPT, MINI, CLAUDE], "Capital of France?", expected="Paris", ledger=ledger)

    assert [row.model for row in found] == [GPT, MINI, CLAUDE]
    assert [row.cost_usd for row in found] == [COSTS[GPT], COSTS[MINI], COSTS[CLAUDE]]
    assert [row.correct for row in found] == [True, False, True]
    assert [row.tokens for row in found] == [120, 120, 120]
    assert all(row.latency_s is not None and row.latency_s > 0 for row in found)
    assert [row.error for row in found] == [None, None, None]


def test_the_cheapest_right_answer_is_marked(compare: Compare, ledger: CostLedger):
    """A wrong answer is never cheap, whatever it costs."""
    found = compare([GPT, MINI, CLAUDE], "Capital of France?", expected="Paris", ledger=ledger)
    unchecked = compare([GPT, MINI, CLAUDE], "Capital of France?", ledger=ledger)

    assert found.cheapest is found[2]
    assert found.cheapest.cost_per_correct_usd == COSTS[CLAUDE]
    assert found[1].cost_per_correct_usd is None
    assert unchecked.cheapest is unchecked[1]


def test_the_table_can_be_read(
    compare: Compare, ledger: CostLedger, monkeypatch: pytest.MonkeyPatch
):
    """One line for each model and one for the total; without a check nothing is said of it."""
    monkeypatch.setenv("COLUMNS", "160")
    found = compare([GPT, MINI, CLAUDE], "Capital of France?", expected="Paris", ledger=ledger)
    lines = str(found).splitlines()

    assert " ".join(lines[0].split()) == "Model Correct Cost Per correct Tokens Latency Note"
    assert lines[2].split()[:5] == [GPT, "yes", "$0.000450", "$0.000450", "120"]
    assert lines[3].split()[:5] == [MINI, "no", "$0.000027", "-", "120"]
    assert lines[4].endswith("cheapest per correct answer")
    assert lines[-1].split() == ["Total", "$0.000677", "360"]
    assert "Correct" not in str(compare([GPT], "Capital of France?", ledger=ledger))


def test_a_notebook_shows_the_table(compare: Compare, ledger: CostLedger):
    """As HTML in which nothing of what came from outside can act."""
    found = compare([MINI, "<b>&"], "Capital of France?", ledger=ledger)
    html = found._repr_html_()

    assert f">{MINI}</td>" in html
    assert "&lt;b&gt;&amp;" in html
    assert "<b>" not in html


def test_a_row_can_be_written_as_json(compare: Compare, ledger: CostLedger):
    """Amounts are texts with all their digits."""
    (row,) = compare([MINI], "Capital of France?", expected="London", ledger=ledger)
    facts = json.loads(json.dumps(row.facts()))

    assert facts["cost_usd"] == "0.000027"
    assert (facts["model"], facts["tokens"], facts["correct"]) == (MINI, 120, True)


# What is asked


def test_several_prompts_have_an_expectation_each(compare: Compare, ledger: CostLedger):
    """Cost and tokens are sums, and the cost per correct answer is what a right one takes."""
    prompts = ["Capital of France?", [{"role": "user", "content": "Capital of England?"}]]
    found = compare([GPT, MINI], prompts, expected=["Paris", "London"], ledger=ledger)

    for row in found:
        assert (row.calls, row.correct_answers, row.checked) == (2, 1, 2)
        assert (row.correct, row.share_correct) == (False, 0.5)
        assert row.cost_usd == 2 * COSTS[row.model]
        assert row.cost_per_correct_usd == 2 * COSTS[row.model]
    assert [answer.correct for answer in found[1].answers] == [False, True]
    assert "1/2" in str(found)
    assert "2 prompts, each asked once" in str(found)


def test_every_prompt_is_asked_as_often_as_wanted(
    compare: Compare, ledger: CostLedger, provider: LoopbackProvider
):
    """Each run is a call of its own, and all of them are paid for."""
    (row,) = compare([MINI], ["a?", "b?"], runs=3, ledger=ledger)

    assert row.cost_usd == 6 * COSTS[MINI] == ledger.total_cost
    assert len(provider.model_calls) == 6
    assert sorted((a.run, a.prompt) for a in row.answers) == [
        (run, prompt) for run in range(3) for prompt in range(2)
    ]


def test_latency_is_the_median_of_what_was_answered():
    """One slow answer does not make a slow model, and an error is no fast one."""
    times = [0.2, None, 9.0, 0.4, 0.3]
    row = ModelRow(model=MINI, answers=tuple(Answer(latency_s=time) for time in times))

    assert row.latency_s == pytest.approx(0.35)
    assert ModelRow(model=MINI, answers=(Answer(),)).latency_s is None


def test_latency_is_what_the_caller_waited(
    clients: list[Any], ledger: CostLedger, provider: LoopbackProvider
):
    """From the call to the whole answer."""
    provider.script(lambda received: Reply(latency_s=0.05))
    (row,) = compare_models([MINI], "a?", client=clients, ledger=ledger)

    assert row.latency_s is not None
    assert row.latency_s >= 0.05


def test_claude_is_given_a_limit_that_its_api_needs(
    compare: Compare, ledger: CostLedger, provider: LoopbackProvider
):
    """And its system message where it wants it; others are given no limit of ours."""
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    compare([CLAUDE], asked, ledger=ledger)
    compare([MINI], asked, ledger=ledger)
    to_claude, to_gpt = (request.body for request in provider.model_calls)

    assert to_claude["max_tokens"] == 1024
    assert to_claude["system"] == "Be brief."
    assert to_claude["messages"] == asked[1:]
    assert to_gpt["messages"] == asked
    assert not {"max_tokens", "max_completion_tokens"} & set(to_gpt)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (CLAUDE, "max_tokens"),
        (MINI, "max_tokens"),
        ("gpt-35-turbo", "max_tokens"),
        ("o3-mini", "max_completion_tokens"),
        ("gpt-5.4-mini", "max_completion_tokens"),
        ("gpt-6-luna", "max_completion_tokens"),
    ],
)
@pytest.mark.filterwarnings("ignore::costtrace.UnpricedModelWarning")
def test_one_limit_is_said_in_each_models_word(
    model: str, name: str, clients: list[Any], ledger: CostLedger, provider: LoopbackProvider
):
    """Models that reason refuse `max_tokens`; a system text goes where each has it."""
    compare_models([model], "Hi", client=clients, ledger=ledger, max_tokens=7, system="Be brief.")
    (request,) = provider.model_calls

    assert {key: request.body[key] for key in request.body if "max" in key} == {name: 7}
    if model == CLAUDE:
        assert request.body["system"] == "Be brief."
    else:
        assert request.body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_model_may_have_options_of_its_own(
    compare: Compare, ledger: CostLedger, provider: LoopbackProvider
):
    """They win over those for all."""
    models = {MINI: {"temperature": 0.5}, GPT: {}}
    compare(models, "Hi", ledger=ledger, temperature=0, max_tokens=5)
    by_model = {request.body["model"]: request.body for request in provider.model_calls}

    assert by_model[MINI]["temperature"] == 0.5
    assert by_model[GPT]["temperature"] == 0


# Who is charged


def test_the_calls_stand_under_their_own_function(compare: Compare, ledger: CostLedger):
    """Inside of the functions and budgets around; no call is entered twice."""

    @tracked(function_name="choose")
    def choose() -> Comparison:
        return compare([MINI, CLAUDE], "Hi")

    with budget("alice", 1, ledger=ledger, tags={"team": "search"}) as b:
        found = choose()
        assert b.spent_usd == found.cost_usd

    entries = list(ledger.entries)
    assert {entry.call_path for entry in entries} == {("choose", "compare_models")}
    assert {(e.user_id, e.function_name, e.tags["team"]) for e in entries} == {
        ("alice", "compare_models", "search")
    }
    assert ledger.total_cost == COSTS[MINI] + COSTS[CLAUDE] == found.cost_usd


def test_without_a_ledger_the_one_around_is_used(compare: Compare, ledger: CostLedger):
    """And `costtrace.ledger` where there is none around."""
    outside = configure()
    compare([MINI], "Hi")
    with budget("alice", ledger=ledger):
        compare([CLAUDE], "Hi")

    assert outside.spent(function_name="compare_models") == COSTS[MINI]
    assert ledger.spent(function_name="compare_models") == COSTS[CLAUDE]


def test_what_goes_on_beside_it_is_no_part_of_it(
    openai_client: Any, ledger: CostLedger, provider: LoopbackProvider
):
    """A check that asks a model itself pays for itself, under the function that it belongs to."""

    def judge(text: str) -> bool:
        openai_client.chat.completions.create(
            model=GPT, messages=[{"role": "user", "content": text}]
        )
        return True

    @tracked(function_name="choose", ledger=ledger)
    def choose() -> Comparison:
        return compare_models([MINI], "Hi", check=judge, client=openai_client)

    (row,) = choose()
    assert row.cost_usd == COSTS[MINI]
    assert ledger.spent(function_name="choose") == COSTS[GPT]


def test_attempts_that_were_lost_are_part_of_the_cost(
    ledger: CostLedger, provider: LoopbackProvider
):
    """A connection that was cut may have been billed: the row is what the ledger charges."""
    provider.queue(Reply(cut_before_headers=True))
    client = provider.openai(max_retries=1)
    (row,) = compare_models([MINI], "Hi", client=client, ledger=ledger, max_tokens=20)

    assert len(provider.model_calls) == 2
    assert row.cost_usd == ledger.total_cost
    assert row.cost_usd > COSTS[MINI]


def test_each_call_is_a_log_record_once(
    clients: list[Any], ledger: CostLedger, caplog: pytest.LogCaptureFixture
):
    """The comparison's own bookkeeping is not told of."""
    with caplog.at_level("INFO", logger="costtrace.usage"):
        compare_models([MINI], "Hi", client=clients, ledger=ledger)

    assert [record.getMessage() for record in caplog.records] == ["llm_call"]


def test_a_budget_ends_the_comparison(
    clients: list[Any], ledger: CostLedger, provider: LoopbackProvider
):
    """What was answered stays, what was refused and what was not asked is said."""
    with budget("alice", "0.0002", ledger=ledger) as b:
        found = compare_models([MINI, GPT, CLAUDE], "Hi", client=clients, max_tokens=20)
        assert b.spent_usd == COSTS[MINI] == found.cost_usd

    assert [row.model for row in found] == [MINI, GPT]
    assert (found[1].calls, found[1].error) == (0, "stopped by a budget")
    assert found.stopped is not None
    assert (found.stopped.user_id, found.stopped.model) == ("alice", GPT)
    assert found.not_asked == (CLAUDE,)
    assert [request.body["model"] for request in provider.model_calls] == [MINI]
    assert str(found).splitlines()[-1].startswith("Stopped: budget of user 'alice' exceeded")
    assert str(found).endswith(f"Not asked: {CLAUDE}.")


def test_a_budget_ends_it_in_the_middle_of_a_model(
    clients: list[Any], ledger: CostLedger, provider: LoopbackProvider
):
    """The answers before the refusal are in the row, and in the cost."""
    with budget("alice", max_calls=2, ledger=ledger):
        found = compare_models([MINI, GPT], ["a?", "b?", "c?"], client=clients, max_tokens=20)

    assert [(row.calls, row.cost_usd) for row in found] == [(2, 2 * COSTS[MINI])]
    assert found.stopped is not None
    assert found.not_asked == (GPT,)


def test_no_budget_is_passed_by_models_asked_at_the_same_time(
    provider: LoopbackProvider, ledger: CostLedger
):
    """Each call is held against it before it is sent; the rows are what was spent."""
    provider.script(None)
    with budget("alice", "0.0005", ledger=ledger) as b:
        found = in_async(provider, [MINI, CLAUDE, GPT], ["a?", "b?", "c?"], max_tokens=20)
        assert b.spent_usd == found.cost_usd
        assert b.spent_usd <= Decimal("0.0005")

    assert found.stopped is not None


# What goes wrong


def test_an_error_of_one_model_leaves_the_others_alone(
    compare: Compare, ledger: CostLedger, provider: LoopbackProvider
):
    """Its row says what went wrong, and it is not asked again where that is of no use."""
    provider.on(
        lambda received: received.body["model"] == GPT,
        Reply(status=404, error="The model `gpt-4o` does not exist"),
    )
    found = compare([GPT, MINI], ["a?", "b?"], expected="London", ledger=ledger)

    assert found[0].error is not None
    assert found[0].error.startswith("NotFoundError: ")
    assert (found[0].calls, found[0].cost_usd, found[0].latency_s) == (1, 0, None)
    assert (found[0].correct, found[0].cost_per_correct_usd) == (False, None)
    assert found[1].correct_answers == 2
    assert "gpt-4o: NotFoundError: " in str(found)


def test_an_error_of_one_prompt_leaves_the_next_ones_alone(
    compare: Compare, ledger: CostLedger, provider: LoopbackProvider
):
    """A prompt without an answer was not answered rightly."""
    provider.queue(Reply(status=500))
    provider.script(None)
    provider.default = Reply(text="yes", input_tokens=100, output_tokens=20)
    (row,) = compare([MINI], ["a?", "b?"], expected="yes", ledger=ledger)

    assert [answer.error is None for answer in row.answers] == [False, True]
    assert (row.correct_answers, row.checked) == (1, 2)
    assert row.error is not None
    assert "InternalServerError" in row.error
    assert row.cost_usd == COSTS[MINI]


@pytest.mark.filterwarnings("ignore::costtrace.UnpricedModelWarning")
def test_a_model_without_a_price_costs_nobody_knows_what(compare: Compare, ledger: CostLedger):
    """Never nothing: it is not the cheapest, and the total is not known."""
    found = compare(["my-own-model", MINI], "Hi", ledger=ledger)

    assert found[0].cost_usd is None
    assert found.cost_usd is None
    assert found.cheapest is found[1]
    assert str(found).splitlines()[2].split()[:2] == ["my-own-model", "unpriced"]


def test_calls_that_are_not_seen_have_no_cost(
    clients: list[Any], ledger: CostLedger, monkeypatch: pytest.MonkeyPatch
):
    """With all instrumentation switched off nobody knows what they cost: that is not nothing."""
    monkeypatch.setenv("COSTTRACE_DISABLED", "1")
    (row,) = compare_models([MINI], "Hi", client=clients, ledger=ledger, expected="London")

    assert (row.correct, row.cost_usd, row.cost_per_correct_usd) == (True, None, None)


def test_without_a_key_the_row_says_so(
    openai_client: Any, ledger: CostLedger, monkeypatch: pytest.MonkeyPatch
):
    """The SDK's own client is made of the environment; the other provider is asked all the same."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    found = compare_models([CLAUDE, MINI], "Hi", client=openai_client, ledger=ledger)

    assert found[0].error is not None
    assert "auth" in found[0].error
    assert found[0].cost_usd == 0
    assert found[1].error is None


@pytest.mark.parametrize("is_async", [False, True])
def test_clients_that_are_missing_are_made_of_the_environment(
    is_async: bool,
    provider: LoopbackProvider,
    ledger: CostLedger,
    monkeypatch: pytest.MonkeyPatch,
):
    """And closed again."""
    for name, value in provider.environ().items():
        monkeypatch.setenv(name, value)
    ask = lambda: acompare_models([MINI, CLAUDE], "Hi", ledger=ledger)  # noqa: E731
    found = asyncio.run(ask()) if is_async else compare_models([MINI, CLAUDE], "Hi", ledger=ledger)

    assert [row.error for row in found] == [None, None]


def test_a_gateway_may_ask_for_anothers_models(
    openai_client: Any, ledger: CostLedger, provider: LoopbackProvider
):
    """A mapping says whose models go through which client, in that client's own words."""
    found = compare_models([CLAUDE], "Hi", client={"anthropic": openai_client}, ledger=ledger)

    assert found[0].error is None
    assert provider.model_calls[0].path.endswith("/chat/completions")
    assert "max_tokens" not in provider.model_calls[0].body


# Checks


def test_a_check_decides_by_the_text(compare: Compare, ledger: CostLedger):
    """Alone, or together with what is expected."""
    by_check = compare([GPT, CLAUDE], "Hi", check=str.isupper, ledger=ledger)
    by_both = compare(
        [GPT, CLAUDE], "Hi", check=lambda text: "capital" in text, expected="Paris", ledger=ledger
    )

    assert [row.correct for row in by_check] == [False, True]
    assert [row.correct for row in by_both] == [True, False]


def test_an_answer_that_a_check_cannot_read_is_wrong(compare: Compare, ledger: CostLedger):
    """The row says what the check raised; the paid answers are not lost."""
    (row,) = compare([MINI], ["a?", "b?"], check=json.loads, ledger=ledger)

    assert (row.correct_answers, row.checked, row.cost_usd) == (0, 2, 2 * COSTS[MINI])
    assert row.error is not None
    assert row.error.startswith("the check raised JSONDecodeError: ")


def test_a_check_may_be_a_coroutine_function(provider: LoopbackProvider, ledger: CostLedger):
    """With the async comparison; the other one says so before anything is sent."""

    async def is_london(text: str) -> bool:
        return text == "London"

    found = in_async(provider, [MINI, GPT], "Hi", check=is_london, ledger=ledger)
    assert [row.correct for row in found] == [True, False]

    with pytest.raises(TypeError, match="needs acompare_models"):
        compare_models([MINI], "Hi", check=is_london, ledger=ledger)


@pytest.mark.parametrize(
    ("text", "expected", "is_right"),
    [
        ("Paris", "Paris", True),
        ("  paris\n", "Paris", True),
        ("It is **Paris**.", "Paris", True),
        ("Comparison", "Paris", False),
        ("It is 4.", "4", True),
        ("42", "4", False),
        ("0.4", "4", False),
        ("4.5", "4", False),
        ("-4", "4", False),
        ("4,000", "4", False),
        ("New\n  York", "new york", True),
        ("costs $5", "$5", True),
        ("答えは東京です", "東京", False),
        ("東京", "東京", True),
        ("", "Paris", False),
    ],
)
def test_what_is_expected_must_stand_in_the_answer(
    text: str,
    expected: str,
    is_right: bool,
    openai_client: Any,
    ledger: CostLedger,
    provider: LoopbackProvider,
):
    """As whole words and whole numbers, whatever the case and the space around."""
    provider.script(lambda received: Reply(text=text, output_tokens=5))
    (row,) = compare_models([MINI], "Hi", expected=expected, client=openai_client, ledger=ledger)

    assert row.correct is is_right


# What is wrong is said before anything is sent


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"models": MINI}, TypeError, "models must be a list of names"),
        ({"models": []}, ValueError, "at least one model"),
        ({"models": [MINI, MINI]}, ValueError, "runs="),
        ({"models": [7]}, TypeError, "model must be a str"),
        ({"messages": []}, ValueError, "messages must not be empty"),
        ({"messages": "  "}, ValueError, "messages must not be empty"),
        ({"messages": 7}, TypeError, "messages must be a text"),
        ({"messages": {"role": "user"}}, TypeError, "messages must be a text"),
        ({"messages": ["a?", 7]}, TypeError, r"messages\[1\] must be a text"),
        ({"messages": [["a?"]]}, TypeError, r"messages\[0\]\[0\] must be a message"),
        ({"expected": ["a", "b"]}, ValueError, "2 texts for 1 prompts"),
        ({"expected": 4}, TypeError, "expected must be a text"),
        ({"expected": " "}, ValueError, "expected must not be empty"),
        ({"check": "Paris"}, TypeError, "check must be callable"),
        ({"runs": 0}, ValueError, "runs must be at least 1"),
        ({"runs": True}, TypeError, "runs must be an int"),
        ({"stream": True}, ValueError, "stream"),
        ({"ledger": "costs.db"}, TypeError, "ledger must be a CostLedger"),
        ({"client": "sk-123"}, TypeError, "client must be a client of"),
        ({"client": {"google": None}}, ValueError, "no provider 'google'"),
    ],
)
def test_wrong_arguments_are_named(
    change: dict[str, Any],
    error: type[Exception],
    says: str,
    clients: list[Any],
    provider: LoopbackProvider,
):
    """What is wrong, and what would be right."""
    given: dict[str, Any] = {"models": [MINI], "messages": "Hi", "client": clients, **change}
    with pytest.raises(error, match=says):
        compare_models(given.pop("models"), given.pop("messages"), **given)
    assert provider.requests == []


def test_a_client_of_the_other_kind_is_refused(provider: LoopbackProvider, openai_client: Any):
    """Before anything is sent: an async client cannot be waited for, a sync one would block."""
    with pytest.raises(TypeError, match="use acompare_models"):
        compare_models([MINI], "Hi", client=provider.async_openai())
    with pytest.raises(TypeError, match="use compare_models"):
        asyncio.run(acompare_models([MINI], "Hi", client=openai_client))
    with pytest.raises(ValueError, match="two for openai"):
        compare_models([MINI], "Hi", client=[openai_client, openai_client])
    assert provider.requests == []


def test_each_answer_is_told_of(compare: Compare, ledger: CostLedger):
    """So that a long comparison can show how far it is."""
    told: list[tuple[str, int, int]] = []
    compare([MINI, CLAUDE], ["a?", "b?"], ledger=ledger, progress=lambda *at: told.append(at))

    assert [done for _, done, _ in told] == [1, 2, 3, 4]
    assert {(model, whole) for model, _, whole in told} == {(MINI, 4), (CLAUDE, 4)}
