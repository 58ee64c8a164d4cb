"""Scopes follow threads, timers, executors and pools, and stay out of their workers."""

from __future__ import annotations

import functools
import gc
import multiprocessing.pool
import threading
import time
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from scope_words import as_user, in_function, path, who

from costtrace.scopes import Scope, active, current, enter, leave


def in_thread(function, *args):
    """What `function` returns in a new thread."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(function(*args)))
    thread.start()
    thread.join(60)
    return seen[0]


def test_thread_started_inside():
    """A thread stands where it was started."""
    with as_user("alice"), in_function("f"):
        assert in_thread(lambda: (who(), path())) == ("alice", ("f",))


def test_thread_started_by_a_thread():
    """Threads hand on what they borrowed, and what they opened themselves."""

    def child():
        with in_function("g"):
            return in_thread(lambda: (who(), path())), in_thread(in_thread, who)

    with as_user("alice"):
        assert in_thread(child) == (("alice", ("g",)), "alice")


def test_thread_lets_go_when_the_scope_is_left():
    """A thread may be some pool's worker, so it keeps its starter's scope only that long."""
    seen, steps = [], [threading.Event() for _ in range(4)]

    def work():
        for before, after in (steps[0:2], steps[2:4]):
            before.wait(60)
            seen.append((who(), path()))
            after.set()

    with as_user("alice"):
        with in_function("f"):
            thread = threading.Thread(target=work)
            thread.start()
        steps[0].set()
        steps[1].wait(60)
    steps[2].set()
    steps[3].wait(60)
    thread.join()

    assert seen == [("alice", ()), (None, ())]


def test_thread_that_never_looks_before_the_end():
    """The same for a thread that asks for the first time when the scope was left."""
    go, seen = threading.Event(), []

    def work():
        go.wait(60)
        seen.append(who())

    with as_user("alice"):
        thread = threading.Thread(target=work)
        thread.start()
    go.set()
    thread.join()

    assert seen == [None]


def test_own_scope_in_a_thread_stays():
    """What the thread itself opened does not end with the starter's scope."""
    inside, go, seen = threading.Event(), threading.Event(), []

    def work():
        with as_user("bob"):
            inside.set()
            go.wait(60)
            seen.append(who())
        seen.append(who())

    with as_user("alice"):
        thread = threading.Thread(target=work)
        thread.start()
        inside.wait(60)
    go.set()
    thread.join()

    assert seen == ["bob", None]


def test_thread_of_a_task_that_outlives_its_scope():
    """What a task carries, it lends to its threads until it is done."""
    import asyncio

    async def child(gate):
        await gate.wait()
        return in_thread(who)

    async def main():
        gate = asyncio.Event()
        with as_user("alice"):
            task = asyncio.create_task(child(gate))
        gate.set()
        return await task

    assert asyncio.run(main()) == "alice"


def test_thread_that_outlives_the_task_that_lent():
    """When the task is done too, nothing is left to borrow."""
    import asyncio

    go, seen = threading.Event(), []

    def work():
        seen.append(who())
        go.wait(60)
        seen.append(who())

    async def child(gate):
        await gate.wait()
        thread = threading.Thread(target=work)
        thread.start()
        while not seen:
            await asyncio.sleep(0)
        return thread

    async def main():
        gate = asyncio.Event()
        with as_user("alice"):
            task = asyncio.create_task(child(gate))
        gate.set()
        return await task

    thread = asyncio.run(main())
    go.set()
    thread.join()

    assert seen == ["alice", None]


def test_subclass_of_thread():
    """A thread with its own run() is followed like any other."""

    class Worker(threading.Thread):
        def run(self):
            self.seen = who()

    with as_user("alice"):
        worker = Worker()
        worker.start()
        worker.join()

    assert worker.seen == "alice"


def test_thread_started_twice():
    """The error is the one of the standard library."""
    with as_user("alice"):
        thread = threading.Thread(target=who)
        thread.start()
        with pytest.raises(RuntimeError, match="started once"):
            thread.start()
        thread.join()


def test_timer_fires_after_its_scope():
    """A timer is one piece of work, and mostly fires when its scope was left."""
    seen, left = [], threading.Event()

    def fire():
        left.wait(60)
        seen.append(who())

    with as_user("alice"):
        timer = threading.Timer(0.02, fire)
        timer.start()
    assert active()
    left.set()
    timer.join()

    assert seen == ["alice"]
    assert not active()
    assert "run" not in vars(timer)


def test_cancelled_timer_lets_go():
    """A timer that will not fire carries nothing."""
    with as_user("alice"):
        timer = threading.Timer(3600, who)
        timer.start()
    timer.cancel()
    timer.join()

    assert not active()


def test_executor_shared_between_users():
    """Each work item is its submitter's, whoever made the worker start."""
    with ThreadPoolExecutor(2) as pool:
        with as_user("alice"):
            first = pool.submit(who)
            with as_user("bob"):
                second = pool.submit(who)
            mapped = list(pool.map(lambda _: who(), range(4)))
            assert [first.result(), second.result(), mapped] == ["alice", "bob", ["alice"] * 4]
            nobodys = []
            thread = threading.Thread(target=lambda: nobodys.append(leave_all_and_submit(pool)))
            thread.start()
            thread.join()
        assert pool.submit(who).result() is None
        assert nobodys == ["alice"]


def leave_all_and_submit(pool):
    """A thread that was started by alice submits for her."""
    return pool.submit(who).result()


def test_worker_started_by_a_user_is_clean():
    """While its starter's scope is still open, a worker serves nobody as nobody."""
    ready, go, seen = threading.Event(), threading.Event(), []
    with ThreadPoolExecutor(1) as pool:

        def outsider():
            ready.set()
            go.wait(60)
            seen.append(pool.submit(who).result())

        thread = threading.Thread(target=outsider)
        thread.start()
        ready.wait(60)
        with as_user("alice"):
            assert pool.submit(who).result() == "alice"
            go.set()
            thread.join()

    assert seen == [None]


def test_work_item_that_abandons_a_scope():
    """A scope that a work item never left does not reach the next item."""
    with ThreadPoolExecutor(1) as pool:
        with as_user("alice"):
            visit = pool.submit(lambda: enter(Scope(None, user_id="bob"))).result()
            assert pool.submit(who).result() == "alice"
        with as_user("carol"):
            assert pool.submit(who).result() == "carol"
        leave(visit)


def test_queued_item_outlives_its_scope():
    """An item that is run later still belongs to who queued it."""
    start = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(start.wait, 60)
        with as_user("alice"):
            item = pool.submit(who)
        start.set()
        with as_user("bob"):
            assert item.result() == "alice"


def test_errors_and_arguments_pass_through():
    """A bound item is called as it was submitted, and fails as it fails."""
    with ThreadPoolExecutor(1) as pool, as_user("alice"):
        assert pool.submit(dict, a=1, fn=2).result() == {"a": 1, "fn": 2}
        with pytest.raises(KeyError):
            pool.submit({}.__getitem__, "x").result()
        with pytest.raises(TypeError):
            pool.submit(None).result()


def test_done_callback_of_a_future():
    """A callback stands where it was added, not in the worker that runs it."""
    seen, start = [], threading.Event()
    with ThreadPoolExecutor(1) as pool:
        item = pool.submit(start.wait, 60)
        with as_user("alice"):
            item.add_done_callback(lambda _: seen.append(who()))
        start.set()

    assert seen == ["alice"]


def test_thread_pool():
    """All ways into a multiprocessing.pool.ThreadPool are bound, its threads are not."""
    new_pool = multiprocessing.pool.ThreadPool
    with new_pool(2) as early, as_user("alice"), new_pool(2) as pool:
        for each in (early, pool):
            assert each.apply(who) == "alice"
            assert each.apply_async(who).get(60) == "alice"
            assert each.map(lambda _: who(), range(3)) == ["alice"] * 3
            assert each.map_async(lambda _: who(), range(3)).get(60) == ["alice"] * 3
            assert each.starmap(lambda *_: who(), [(1, 2)] * 3) == ["alice"] * 3
            assert each.starmap_async(lambda *_: who(), [(1, 2)]).get(60) == ["alice"]
            assert list(each.imap(lambda _: who(), range(3))) == ["alice"] * 3
            assert list(each.imap_unordered(lambda _: who(), range(3))) == ["alice"] * 3


def test_thread_pool_workers_are_clean():
    """A pool's thread serves the next user clean, also while its starter's scope is open."""
    seen = []
    ready, go = threading.Event(), threading.Event()
    pools = []

    def outsider():
        ready.set()
        go.wait(60)
        seen.append(pools[0].apply(who))

    thread = threading.Thread(target=outsider)
    thread.start()
    ready.wait(60)
    with as_user("alice"), multiprocessing.pool.ThreadPool(1) as pool:
        pools.append(pool)
        assert pool.apply(who) == "alice"
        go.set()
        thread.join()

    assert seen == [None]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_process_pool_workers_are_clean():
    """A worker process that was forked inside a scope serves nobody as nobody."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        with as_user("alice"):
            assert pool.submit(who).result() is None
        assert pool.submit(who).result() is None
    with as_user("alice"), context.Pool(1) as workers:
        assert workers.apply(who) is None


def test_another_tool_that_wraps_submit():
    """Who wraps submit() above us keeps working, and is never clobbered."""
    original = ThreadPoolExecutor.submit
    calls = []
    visit = enter(Scope(None, user_id="alice"))
    ours = ThreadPoolExecutor.submit

    @functools.wraps(ours)
    def theirs(self, fn, /, *args, **kwargs):
        calls.append(who())
        return ours(self, fn, *args, **kwargs)

    ThreadPoolExecutor.submit = theirs
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(who).result() == "alice"
            leave(visit)
            assert ThreadPoolExecutor.submit is theirs
            assert pool.submit(who).result() is None
            for _ in range(3):
                with as_user("bob"):
                    assert pool.submit(who).result() == "bob"
                assert ThreadPoolExecutor.submit is theirs
        assert calls == ["alice", None, "bob", "bob", "bob"]
        ThreadPoolExecutor.submit = ours  # theirs is taken off: ours comes to light, unused
        with as_user("carol"), ThreadPoolExecutor(1) as pool:
            assert pool.submit(who).result() == "carol"
        assert ThreadPoolExecutor.submit is original
    finally:
        ThreadPoolExecutor.submit = original


def test_another_tool_that_wrapped_submit_before():
    """Who wrapped submit() before us is called, and restored."""
    original = ThreadPoolExecutor.submit
    calls = []

    def theirs(self, fn, /, *args, **kwargs):
        calls.append(who())
        return original(self, fn, *args, **kwargs)

    ThreadPoolExecutor.submit = theirs
    try:
        with as_user("alice"), ThreadPoolExecutor(1) as pool:
            assert pool.submit(who).result() == "alice"
        assert ThreadPoolExecutor.submit is theirs
    finally:
        ThreadPoolExecutor.submit = original
    assert calls == ["alice"]


def test_hooks_look_like_what_they_replace():
    """A hooked method keeps its name and signature."""
    import inspect

    before = inspect.signature(ThreadPoolExecutor.submit)
    with as_user("alice"):
        assert inspect.signature(ThreadPoolExecutor.submit) == before
        assert threading.Thread.start.__name__ == "start"


def test_thousands_of_items_leave_nothing():
    """Neither scopes nor visits are kept by the workers or the queue."""
    refs = []
    with ThreadPoolExecutor(2) as pool:
        for number in range(100):
            scope = Scope(None, user_id=f"user{number}")
            visit = enter(scope)
            items = [pool.submit(who) for _ in range(20)]
            assert {item.result() for item in items} == {f"user{number}"}
            leave(visit)
            refs += [weakref.ref(scope), weakref.ref(visit)]
            del scope, visit, items
        gc.collect()
        patience = time.monotonic() + 5
        while any(ref() for ref in refs) and time.monotonic() < patience:
            time.sleep(0.001)  # a worker drops its last item a moment after its result
        assert not any(ref() for ref in refs)


def test_threads_that_live_on_keep_nothing():
    """A thread that outlives the scope it was started in does not keep it."""
    go = threading.Event()
    scope = Scope(None, user_id="alice")
    visit = enter(scope)
    thread = threading.Thread(target=lambda: (who(), go.wait(60), who(), go.wait(60)))
    thread.start()
    leave(visit)
    refs = [weakref.ref(scope), weakref.ref(visit)]
    del scope, visit
    go.set()
    thread.join()
    del thread
    gc.collect()

    assert not any(ref() for ref in refs)
    assert current() is None
