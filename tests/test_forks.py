"""A child forked while another thread is in the middle of something is not stuck in it.

Nobody gives back in the child what that thread held: each program holds it on purpose, forks, and
lets the child do what would wait for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from vocabulary import vocabulary

ROOT = Path(__file__).parents[1]
WORDS = """
import os, signal, sys, threading, traceback, warnings
warnings.simplefilter("ignore", DeprecationWarning)
reached, go_on = threading.Event(), threading.Event()
def wait_here(*_):
    if threading.current_thread() is not threading.main_thread():
        reached.set(); go_on.wait(20)
class Slow(str):
    def __hash__(self):
        wait_here()
        return str.__hash__(self)
def in_child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        try: work()
        except BaseException: traceback.print_exc(); os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"the child came to {status}"
def amid(held, work):
    thread = threading.Thread(target=held); thread.start(); assert reached.wait(20)
    try: in_child(work)
    finally: go_on.set(); thread.join()
"""


def run(program: str, folder: Path, **env: str) -> None:
    """Run a program that forks."""
    done = subprocess.run(
        [sys.executable, "-c", WORDS + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )
    assert done.returncode == 0, done.stderr


def test_a_scope_is_left_though_another_thread_left_one(tmp_path: Path):
    """What is still being read is looked for whenever a scope is left."""
    run(
        """
        from costtrace import CostLedger, budget
        from costtrace.instrumentation.opened import open_watch
        class Chain:
            @property
            def parent(self): wait_here()
        ledger = CostLedger()
        def child():
            with budget("alice", 1, ledger=ledger): pass
        amid(lambda: open_watch(Chain(), object()), child)
        """,
        tmp_path,
    )


def test_a_response_is_looked_up_though_another_thread_did(tmp_path: Path):
    """Those whose usage may be read later are known to the process."""
    run(
        """
        from costtrace.instrumentation.known import is_known
        amid(lambda: is_known(Slow("resp_1")), lambda: is_known("resp_2"))
        """,
        tmp_path,
    )


def test_the_processs_ledger_is_made_though_another_thread_was_making_it(tmp_path: Path):
    """As slowly as the file of prices is read."""
    os.mkfifo(tmp_path / "prices.json")
    run(
        """
        import costtrace.accounting.default as default, time
        from costtrace.accounting import default_ledger
        def held():
            reached.set()
            try: default_ledger()
            except ValueError: pass
        thread = threading.Thread(target=held); thread.start()
        pipe = os.open("prices.json", os.O_WRONLY)  # opened as soon as the other thread reads it
        def child():
            os.close(pipe)
            del os.environ["COSTTRACE_PRICES"]
            assert len(default_ledger().entries) == 0
        in_child(child)
        os.close(pipe); thread.join()
        """,
        tmp_path,
        COSTTRACE_PRICES="prices.json",
    )


def test_tokens_are_counted_though_another_thread_was_loading_the_vocabulary(tmp_path: Path):
    """tiktoken's own lock is held as well: the child estimates, and is not stuck."""
    run(
        """
        from costtrace import count_tokens
        from costtrace.tokens import encoding
        def load(): assert count_tokens("tiktoken is great!", "gpt-4o").exact
        import tiktoken, tiktoken.load
        read = tiktoken.load.load_tiktoken_bpe
        def held():
            sys.setprofile(lambda frame, kind, _: wait_here() if kind == "call"
                           and frame.f_code is read.__code__ else None)
            load()
        def child():
            counted = count_tokens("tiktoken is great!", "gpt-4o")
            assert (counted.exact, counted.method) == (False, "estimate:pieces"), counted.method
        amid(held, child)
        load()
        """,
        tmp_path,
        TIKTOKEN_CACHE_DIR=str(vocabulary()),
    )


def test_entries_are_counted_though_another_thread_was_counting(tmp_path: Path):
    """In the sink for Prometheus, which a child has inherited."""
    run(
        """
        from costtrace import CostLedger
        from costtrace.sinks import PrometheusSink
        ledger, sink = CostLedger(), PrometheusSink()
        ledger.sinks.append(sink)
        ledger.record("gpt-4o", "answer", "alice", 1, 1)
        (entry,) = ledger.entries
        from dataclasses import replace
        slow = replace(entry, function_name=Slow("answer"))
        amid(lambda: sink.entry(slow), lambda: ledger.record("gpt-4o", "answer", "alice", 1, 1))
        """,
        tmp_path,
    )
