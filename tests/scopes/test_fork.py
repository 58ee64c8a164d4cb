"""A forked child goes on where it was forked, and knows of nobody else's scopes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

WORDS = """
import asyncio, os, sys, threading, traceback, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from costtrace.scopes import Scope, Stay, active, current, enter, leave, lifecycle, register
def who(): return current() and current().user_id
def as_user(name): return Stay(Scope(current(), user_id=name))
def in_child(work):
    pid = os.fork()
    if pid == 0:
        try: work()
        except BaseException: traceback.print_exc(); os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"
"""


def run(program):
    """Run a program that forks."""
    code = WORDS + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_leaf_of_the_forking_thread_survives():
    """The child stands where its thread stood, and leaves the scope by itself."""
    run(
        """
        heard = []
        register(lambda: heard.append("opened"), lambda: heard.append("closed"))
        original = threading.Thread.start
        visit = enter(Scope(None, user_id="alice"))
        def child():
            assert who() == "alice" and active()
            leave(visit)
            assert who() is None and not active()
            assert heard == ["opened", "closed"] and threading.Thread.start is original
        in_child(child)
        assert who() == "alice" and active()
        leave(visit)
        assert not active()
        """
    )


def test_scopes_of_other_threads_are_gone():
    """A thread that is not in the child keeps nothing open there."""
    run(
        """
        entered, done = threading.Event(), threading.Event()
        def other():
            with as_user("bob"):
                entered.set(); done.wait(60)
        thread = threading.Thread(target=other); thread.start(); entered.wait(60)
        original = lifecycle
        def child():
            assert who() is None and not active()
            with as_user("carol"):
                assert active() and who() == "carol"
            assert not active()
            assert not hasattr(threading.Thread.start, "__wrapped__")
        in_child(child)
        assert active()
        done.set(); thread.join()
        assert not active()
        """
    )


def test_fork_inside_a_task():
    """In the child no loop runs, so what the task had is the thread's."""
    run(
        """
        def child():
            assert who() == "alice" and active(), who()
            async def again():
                return await asyncio.create_task(asyncio.sleep(0, who()))
            assert asyncio.new_event_loop().run_until_complete(again()) == "alice"
        async def carried():
            await asyncio.sleep(0)
            in_child(child)
        async def main():
            with as_user("alice"):
                in_child(child)
                task = asyncio.create_task(carried())
            await task
        asyncio.run(main())
        """
    )


def test_fork_inside_a_work_item():
    """The child of a work item carries what the item carries."""
    run(
        """
        from concurrent.futures import ThreadPoolExecutor
        def child():
            assert who() == "alice" and active()
        with ThreadPoolExecutor(1) as pool:
            with as_user("alice"):
                pool.submit(in_child, child).result()
        assert not active()
        """
    )


@pytest.mark.parametrize("count", [30])
def test_fork_while_others_open_and_close(count):
    """No child hangs on a lock that somebody held."""
    run(
        f"""
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                with as_user("x"): pass
        threads = [threading.Thread(target=busy) for _ in range(4)]
        for thread in threads: thread.start()
        def child():
            for _ in range(10):
                with as_user("carol"):
                    assert who() == "carol" and active()
            assert not active()
        for _ in range({count}): in_child(child)
        stop.set()
        for thread in threads: thread.join()
        """
    )


def test_multiprocessing_process():
    """A process that is forked inside a scope is its starter's."""
    run(
        """
        import multiprocessing
        context = multiprocessing.get_context("fork")
        def child():
            assert who() == "alice"
        with as_user("alice"):
            process = context.Process(target=child)
            process.start(); process.join()
        assert process.exitcode == 0
        """
    )


def test_abandoned_scope_at_exit_is_silent():
    """A scope that is still entered when the interpreter ends says nothing."""
    code = WORDS + "visit = enter(Scope(None, user_id='alice'))\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
