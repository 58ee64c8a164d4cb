"""The pytest plugin in pytest runs of their own: costs by test, marks, and the committed lock."""

from __future__ import annotations

import json
from configparser import ConfigParser
from pathlib import Path

import pytest

import costtrace

pytest_plugins = ["pytester"]
ROOT = Path(costtrace.__file__).parents[1]
APPLICATION = """
    import pytest
    from costtrace import CostLedger, budget, tracked

    def ask(provider, text, **options):
        return provider.openai().chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": text}], **options
        )
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest on a file of tests; return what it printed and its exit status."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(tests: str, *options: str):
        pytester.makepyfile(test_app=f"{APPLICATION}\n{tests}")
        return pytester.runpytest_subprocess(
            *("-p", "costtrace.testing.pytest_plugin", "-p", "no:cacheprovider", *options)
        )

    return run


TWO_TESTS = """
    def test_short(loopback_provider):
        ask(loopback_provider, "one", max_tokens=5)

    def test_long(loopback_provider):
        ask(loopback_provider, "one two three " * {times}, max_tokens=5)
        assert True

    def test_silent():
        pass
"""


def test_the_summary_shows_the_dearest_tests_first(run):
    """Calls in no scope at all are heard too, and tests without calls are not listed."""
    done = run(TWO_TESTS.format(times=50), "--cost-summary")

    assert done.ret == 0
    done.stdout.fnmatch_lines(
        [
            "*cost of LLM calls*",
            "Test*Calls*Tokens*Cost",
            "test_app.py::test_long *1 *$0.00*",
            "test_app.py::test_short *1 *$0.00*",
            "Total *2 *$0.00*",
        ]
    )
    assert "test_silent" not in done.stdout.str()


def test_it_says_so_when_no_test_made_a_call(run):
    """An empty table would look like a fault."""
    done = run("    def test_silent(): pass", "--cost-summary")

    done.stdout.fnmatch_lines(["no test made an LLM call"])


def test_it_is_quiet_unless_it_is_asked(run):
    """Where costtrace is merely installed, nothing is patched, heard or printed."""
    done = run(
        """
    def test_not_patched(loopback_provider):
        import costtrace
        assert not costtrace.active()
        ask(loopback_provider, "one")
        assert len(costtrace.ledger.entries) == 0
"""
    )

    assert done.ret == 0
    assert "cost" not in done.stdout.str().replace("costtrace", "")


LIMITS = {
    "calls=1": "the test took 2 calls, its limit is 1",
    "tokens=3": "the test took * tokens, its limit is 3",
    "usd='0.000001'": "the calls of the test cost $0.00*, its limit is $0.000001",
}


def test_a_mark_fails_a_test_that_takes_more(run):
    """Whatever ledger the calls went to, and in whatever scope they were made."""
    tests = [
        f"""
    @pytest.mark.cost_limit({limit})
    def test_two_calls_{number}(loopback_provider):
        with CostLedger() as ledger, budget("alice", 1, ledger=ledger):
            ask(loopback_provider, "one")
            ask(loopback_provider, "two")
"""
        for number, limit in enumerate(LIMITS)
    ]
    done = run("\n".join(tests))

    done.assert_outcomes(failed=3)
    done.stdout.fnmatch_lines([f"*{problem}" for problem in LIMITS.values()])


def test_a_wrong_mark_is_said_without_our_own_code(run):
    """What is wrong stands in the test's file; a traceback through ours would hide it."""
    done = run(
        """
    @pytest.mark.cost_limit(usd="x", calls=0)
    def test_wrong(loopback_provider):
        pass

    @pytest.mark.cost_limit(calls=0)
    def test_one_call(loopback_provider):
        ask(loopback_provider, "one")
"""
    )

    text = done.stdout.str()
    assert "cost_limit: usd must be a number" in text
    assert "def _limits" not in text
    assert "the test took 1 call, its limit is 0" in text


def test_a_mark_lets_a_test_within_it_pass(run):
    """All limits hold, each at what is just allowed."""
    done = run(
        """
    @pytest.mark.cost_limit(calls=1, tokens=1000, usd=0.01)
    def test_one_call(loopback_provider):
        ask(loopback_provider, "one")
"""
    )

    done.assert_outcomes(passed=1)


@pytest.mark.parametrize("arguments", ["", "5", "dollars=5", "usd=-1", "calls='x'"])
def test_a_mark_that_limits_nothing_is_an_error(run, arguments):
    """It would let everything pass in silence."""
    done = run(f"    @pytest.mark.cost_limit({arguments})\n    def test_it(): pass")

    assert done.ret != 0
    done.stdout.fnmatch_lines(["*@pytest.mark.cost_limit*"])


def test_a_test_that_uses_more_tokens_than_the_lock_fails_the_run(run, pytester):
    """The lock is made once; then a prompt that has doubled is found, and named."""
    assert run(TWO_TESTS.format(times=50), "--cost-lock", "l.json", "--cost-lock-update").ret == 0
    locked = json.loads((pytester.path / "l.json").read_text())["tests"]
    assert sorted(locked) == ["test_app.py::test_long", "test_app.py::test_short"]
    assert "cost" not in str(locked)

    assert run(TWO_TESTS.format(times=52), "--cost-lock", "l.json").ret == 0
    done = run(TWO_TESTS.format(times=100), "--cost-lock", "l.json")

    assert done.ret == 1
    done.stdout.fnmatch_lines(
        ["*more tokens than in l.json*", "test_app.py::test_long: * tokens against *"]
    )
    assert "test_app.py::test_short: " not in done.stdout.str()
    wider = run(TWO_TESTS.format(times=100), "--cost-lock", "l.json", "--cost-tolerance", "150%")
    assert wider.ret == 0


def test_a_lock_that_compares_nothing_fails_the_run(run):
    """A gate that did its work on no test has not passed."""
    assert run(TWO_TESTS.format(times=1), "--cost-lock", "l.json", "--cost-lock-update").ret == 0

    done = run("    def test_silent(): pass", "--cost-lock", "l.json")

    assert done.ret == 1
    done.stdout.fnmatch_lines(["*could not compare anything"])


def test_updating_keeps_what_did_not_run(run, pytester):
    """Half of the tests may be run alone; what failed is not written."""
    run(TWO_TESTS.format(times=1), "--cost-lock", "l.json", "--cost-lock-update")
    before = json.loads((pytester.path / "l.json").read_text())["tests"]
    tests = TWO_TESTS.format(times=50).replace("assert True", "assert False")

    run(tests, "--cost-lock", "l.json", "--cost-lock-update")

    assert json.loads((pytester.path / "l.json").read_text())["tests"] == before


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--cost-lock-update"], "*--cost-lock-update needs --cost-lock FILE"),
        (["--cost-lock", "none.json"], "*none.json does not exist: make it with *"),
        (["--cost-lock", "test_app.py"], "*test_app.py is no lock of costs: *"),
        (["--cost-tolerance", "-1"], "*'-1' is no share: write 10% or 0.1"),
    ],
)
def test_wrong_options_end_the_run_before_any_test(run, options, problem):
    """Usage errors have pytest's own exit status for them."""
    done = run(TWO_TESTS.format(times=1), *options)

    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([problem])


def test_workers_of_xdist_are_added_up(run):
    """Tests run in two processes; table and gate are of all of them."""
    xdist = ("-p", "xdist", "-n", "2")
    run(TWO_TESTS.format(times=50), "--cost-lock", "l.json", "--cost-lock-update", *xdist)

    done = run(TWO_TESTS.format(times=120), "--cost-lock", "l.json", "--cost-summary", *xdist)

    assert done.ret == 1
    done.stdout.fnmatch_lines(["Total *2 *", "test_app.py::test_long: * tokens against *"])


def test_a_stream_that_is_left_counts_once(run):
    """Its entry is written when it is left and again when it is known better."""
    done = run(
        """
    @pytest.mark.cost_limit(calls=1)
    def test_left(loopback_provider):
        with budget("alice"):
            stream = ask(loopback_provider, "one", stream=True)
            next(stream)
        list(stream)
"""
    )

    done.assert_outcomes(passed=1)


def test_an_application_that_is_instrumented_stays_so(run):
    """What the tests' own set-up has begun is not the plugin's to end."""
    done = run(
        """
    import costtrace

    @pytest.fixture(scope="module", autouse=True)
    def seen():
        costtrace.instrument()
        yield
        costtrace.uninstrument()

    def test_first(loopback_provider): ask(loopback_provider, "one")

    @pytest.mark.cost_limit(calls=1)
    def test_second(loopback_provider): ask(loopback_provider, "one")

    def test_third(loopback_provider):
        before = len(costtrace.ledger.entries)
        ask(loopback_provider, "one")
        assert len(costtrace.ledger.entries) == before + 1
"""
    )

    done.assert_outcomes(passed=3)


def test_pytest_finds_the_plugin_by_itself():
    """The entry point that is installed with the package names the module."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")

    found = setup["options.entry_points"]["pytest11"].strip()

    assert found == "costtrace = costtrace.testing.pytest_plugin"
