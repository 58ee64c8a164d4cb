"""`costtrace run`: scripts under a budget, as Python itself would run them."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Cli, Outcome

from costtrace import CostLedger
from costtrace.testing import LoopbackProvider, Reply

CALL = """
import openai
client = openai.OpenAI(max_retries=0)
def ask():
    return client.chat.completions.create(
        model="gpt-4o-mini", max_tokens=50, messages=[{"role": "user", "content": "hi"}]
    )
"""
COST = "0.0000123"  # of one call on the loopback provider: 2 tokens in, 20 out


@pytest.fixture
def script(tmp_path: Path):
    """Write a script that has `ask()`; return its path."""

    def write(text: str, name: str = "job.py") -> Path:
        path = tmp_path / name
        path.write_text(CALL + text)
        return path

    return write


@pytest.fixture
def run(shell: Cli, provider: LoopbackProvider):
    """Run a command line whose SDKs talk to the loopback provider."""

    def run(*words: object, **env: str) -> Outcome:
        return shell("run", *words, env={**provider.environ(), **env})

    return run


def test_a_script_needs_no_change(run, script, provider: LoopbackProvider, tmp_path: Path):
    """Its calls are seen, also in threads it starts, and are entered for the script."""
    script("import threading\nask()\nthreading.Thread(target=ask).start()\nprint('done')\n")

    done = run("--db", "costs.db", "job.py")

    assert (done.status, done.out) == (0, "done\n")
    assert "costtrace: 2 calls, $0.0000246" in done.err
    with CostLedger(path=tmp_path / "costs.db") as ledger:
        assert {(e.function_name, e.user_id) for e in ledger.entries} == {("job.py", "anon")}
    assert len(provider.requests) == 2


def test_its_own_words_are_the_scripts(run, script):
    """Options behind the script belong to it; it is `__main__`, and finds its neighbours."""
    script("SAID = 'from a neighbour'\n", "neighbour.py")
    script("import sys, neighbour\nprint(__name__, sys.argv[1:], neighbour.SAID)\n")

    done = run("--limit", "1", "job.py", "--limit", "7", "-x")

    assert done.out == "__main__ ['--limit', '7', '-x'] from a neighbour\n"


def test_a_module_is_run_by_its_name(run, script, tmp_path: Path):
    """As `python -m` runs it."""
    script("import sys\nask()\nprint(__name__, sys.argv[1:])\n")

    done = run("-m", "job", "--fast")

    assert (done.status, done.out) == (0, "__main__ ['--fast']\n")
    assert "1 call, $0.0000123" in done.err


def test_a_budget_stops_it(run, script, provider: LoopbackProvider):
    """One line, status 1, no traceback; the refused call was not sent."""
    script("for _ in range(10): ask()\n")

    done = run("--limit", "0.00005", "--user", "nightly", "job.py")

    assert done.status == 1
    assert "costtrace: stopped by a budget: budget of user 'nightly' exceeded" in done.err
    assert "costtrace: 90% of budget used" not in done.err
    assert "Traceback" not in done.err
    assert "2 calls, $0.0000246 (limit $0.00005)" in done.err
    assert len(provider.requests) == 2


def test_an_alert_is_told_as_it_fires(run, script, provider: LoopbackProvider):
    """On standard error, while the script goes on."""
    provider.default = Reply(output_tokens=50)  # 0.0000303 USD each, 0.0000345 at worst
    script("ask()\nask()\nprint('done')\n")

    done = run("--limit", "0.000065", "job.py")

    assert (done.status, done.out) == (0, "done\n")
    assert "costtrace: 90% of budget used: $0.0001 / $0.0001 (user anon)" in done.err


def test_a_script_may_handle_the_refusal(run, script):
    """Then it ends as it wants to."""
    script(
        "from costtrace import BudgetExceededError\n"
        "try:\n    ask()\nexcept BudgetExceededError as error:\n    print(error.limit_usd)\n"
    )

    done = run("--limit", "0", "job.py")

    assert (done.status, done.out) == (0, "0\n")


def test_a_limit_may_hold_over_several_runs(run, script):
    """With a window, what the ledger's file knows counts too; without, each run is new."""
    script("ask()\n")
    limited = ("--db", "costs.db", "--limit", "0.00004")

    assert [run(*limited, "job.py").status for _ in range(3)] == [0, 0, 0]
    assert run(*limited, "--window", "month", "job.py").status == 1


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit('gave up')", 1, "gave up\n"),
        ("raise ValueError('no such thing')", 1, "ValueError: no such thing\n"),
    ],
)
def test_it_ends_as_the_script_ends(run, script, ending: str, status: int, said: str):
    """The same status; a traceback is the script's own, and begins in it."""
    script(f"ask()\n{ending}\n")

    done = run("job.py")

    assert done.status == status
    assert said in done.err
    assert "1 call" in done.err
    assert "runpy" not in done.err
    assert "opening.py" not in done.err


def test_threads_are_waited_for(run, script):
    """Also when the main thread exits early: Python would wait for them too."""
    script(
        "import sys, threading\nready = threading.Event()\n"
        "def work():\n    ready.wait(); ask()\n"
        "threading.Thread(target=work).start()\n"
        "import atexit\n"
        "try:\n    sys.exit(3)\nfinally:\n    ready.set()\n"
    )

    done = run("job.py")

    assert done.status == 3
    assert "1 call, $0.0000123" in done.err


def test_the_report_comes_at_the_end(run, script):
    """On standard error: standard output is the script's."""
    script("ask()\nprint('out')\n")

    done = run("--report", "job.py")

    assert done.out == "out\n"
    assert "costtrace report of memory" in done.err
    assert "job.py" in done.err


def test_a_script_with_scopes_of_its_own_keeps_them(run, script, tmp_path: Path):
    """Its functions and users; a ledger that it configures does not take ours away."""
    script(
        "import costtrace\ncosttrace.configure(path='own.db')\n"
        "@costtrace.tracked\ndef inner(): ask()\n"
        "with costtrace.budget('zoe'): inner()\nask()\n"
    )

    done = run("--db", "costs.db", "--limit", "1", "job.py")

    assert done.status == 0
    with CostLedger(path=tmp_path / "costs.db") as ledger:
        assert [(e.function_name, e.user_id) for e in ledger.entries] == [
            ("inner", "zoe"),
            ("job.py", "anon"),
        ]


def test_the_environment_names_the_ledger(run, script, tmp_path: Path):
    """`COSTTRACE_DB`, as for the library; the script's own ledger is the same file."""
    script("import costtrace\nask()\nprint(costtrace.ledger.total_cost)\n")

    done = run("job.py", COSTTRACE_DB=str(tmp_path / "env.db"))

    assert done.out.strip() in ("0.0000123", "0.00001230")
    assert (tmp_path / "env.db").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.py"], "there is no script nowhere.py; a module is run with -m"),
        (["-m", "no.such.module"], "there is no module no.such.module"),
        ([], "missing: SCRIPT"),
        (["--limit", "-1", "job.py"], "'-1' is no amount of US dollars such as 5 or 0.50"),
        (["--window", "year", "job.py"], "invalid choice: 'year'"),
    ],
)
def test_wrong_usage_runs_nothing(run, script, words: list[str], said: str):
    """Status 2 and one line that says what is wrong."""
    script("print('ran')\n")

    done = run(*words)

    assert (done.status, done.out) == (2, "")
    assert said in done.err


def test_switched_off_it_refuses(run, script):
    """A limit that cannot hold is not promised."""
    script("print('ran')\n")

    done = run("--limit", "1", "job.py", COSTTRACE_DISABLED="1")

    assert (done.status, done.out) == (2, "")
    assert "COSTTRACE_DISABLED is set" in done.err


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        (("--user", ""), {}, "--user '': user_id must not be empty"),
        ((), {"COSTTRACE_BUDGET_USD": "abc"}, "COSTTRACE_BUDGET_USD must be a number"),
        ((), {"COSTTRACE_KEEP_DAYS": "0"}, "COSTTRACE_KEEP_DAYS must be from 1"),
        ((), {"COSTTRACE_PRICES": "none.json"}, "COSTTRACE_PRICES names none.json, which cannot"),
    ],
)
def test_a_wrong_setting_is_one_line(
    run, script, words: tuple[str, ...], env: dict[str, str], said: str
):
    """It names the option or the variable; the script is not begun."""
    script("print('begun')\n")

    done = run(*words, "job.py", **env)

    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"costtrace: {said}")
    assert done.err.count("\n") == 1
