"""Scopes follow gevent's greenlets; each program runs in a process of its own, since it patches."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("gevent", reason="gevent is not installed")

WORDS = """
import random, sys, threading, gc
import costtrace.scopes.leaf
from concurrent.futures import ThreadPoolExecutor
from costtrace.scopes import Scope, Stay, active, current, lifecycle, enter, leave
def who(): return current() and current().user_id
def as_user(name): return Stay(Scope(current(), user_id=name))
"""
PATCH_FIRST = "from gevent import monkey; monkey.patch_all()\nimport gevent, gevent.pool\n"
PATCH_LATE = (
    "import costtrace.scopes, threading\n"
    "with costtrace.scopes.Stay(costtrace.scopes.Scope()): pass\n"
)
NOTHING_LEFT = """
gevent.sleep(0)  # links are told in the loop's next round
gc.collect()
assert not active(), (lifecycle.entered, lifecycle.items, lifecycle.carrying)
assert current() is None
assert not hasattr(threading.Thread.start, "__wrapped__")
costtrace.scopes.leaf.to_carry = lambda: print("asked", file=sys.stderr) or sys.exit(1)
gevent.spawn(who).get()  # nobody asks any more what a new greenlet inherits
"""


def run(program, before=PATCH_FIRST):
    """Run a program under gevent's patches, and see that it leaves nothing open or hooked."""
    code = before + WORDS + textwrap.dedent(program) + NOTHING_LEFT
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


both = pytest.mark.parametrize(
    "before", [PATCH_FIRST, PATCH_LATE + PATCH_FIRST], ids=["patched first", "patched late"]
)


@both
def test_greenlets_are_told_apart(before):
    """What a greenlet enters is its own, across every switch."""
    run(
        """
        wrong = []
        def user(name):
            for level in range(5):
                with as_user(name):
                    gevent.sleep(random.random() / 1000)
                    if who() != name: wrong.append((name, who()))
                gevent.sleep(0)
                if who() is not None: wrong.append((name, who()))
        gevent.joinall([gevent.spawn(user, f"u{n}") for n in range(50)])
        assert wrong == [], wrong
        """,
        before,
    )


def test_greenlets_inherit():
    """A spawned greenlet is its creator's, also after the scope was left."""
    run(
        """
        def child():
            first = who()
            gevent.sleep(0.001)
            return first, who()
        with as_user("alice"):
            spawned, later = gevent.spawn(child), gevent.spawn_later(0.05, child)
            grand = gevent.spawn(lambda: gevent.spawn(child).get())
            pooled = gevent.pool.Pool(2).map(lambda _: who(), range(4))
        assert active()
        with as_user("bob"):
            assert spawned.get() == later.get() == grand.get() == ("alice", "alice")
        assert pooled == ["alice"] * 4
        assert gevent.spawn(child).get() == (None, None)
        """
    )


@both
def test_patched_threads_and_executors(before):
    """Threads and executors made of greenlets follow the same rules as real ones."""
    run(
        """
        seen = []
        with as_user("alice"):
            thread = threading.Thread(target=lambda: seen.append(who()))
            thread.start(); thread.join()
            go = threading.Event()
            late = threading.Thread(target=lambda: (go.wait(), seen.append(who())))
            late.start()
        assert not active()
        go.set(); late.join()
        assert seen == ["alice", None], seen
        with ThreadPoolExecutor(2) as pool:
            with as_user("alice"):
                assert pool.submit(who).result() == "alice"
                with as_user("bob"):
                    assert list(pool.map(lambda _: who(), range(4))) == ["bob"] * 4
            assert not active()
            assert pool.submit(who).result() is None
        """,
        before,
    )


def test_native_thread_pool():
    """gevent's pool of real threads is given bound work."""
    run(
        """
        pool = gevent.get_hub().threadpool
        with as_user("alice"):
            assert pool.apply(who) == "alice"
            with as_user("bob"):
                assert pool.spawn(who).get() == "bob"
        assert pool.apply(who) is None
        """
    )


def test_storm_of_greenlets():
    """Hundreds of users over greenlets, threads and executors, and everyone is right."""
    run(
        """
        wrong, pool = [], ThreadPoolExecutor(4)
        def check(name):
            gevent.sleep(random.random() / 1000)
            if who() != name: wrong.append((name, who()))
        def user(name):
            for _ in range(3):
                with as_user(name):
                    check(name)
                    children = [gevent.spawn(check, name) for _ in range(2)]
                    item = pool.submit(check, name)
                    thread = threading.Thread(target=check, args=(name,))
                    thread.start(); thread.join()
                    item.result()
                gevent.joinall(children)
                check(None)
        gevent.joinall([gevent.spawn(user, f"u{n}") for n in range(100)])
        pool.shutdown()
        assert wrong == [], wrong[:5]
        """
    )


def test_killed_and_failed_greenlets():
    """However a greenlet ends, its scopes end, also when it is still referred to."""
    run(
        """
        def wait():
            with as_user("alice"):
                gevent.sleep(100)
        def abandon(): enter(Scope(None, user_id="bob"))
        killed, abandoned = gevent.spawn(wait), gevent.spawn(abandon)
        with as_user("carol"): unstarted = gevent.spawn_later(100, wait)
        gevent.sleep(0.01)
        killed.kill(); unstarted.kill(); abandoned.join()
        del abandoned
        """
    )
