"""Scopes follow asyncio's tasks, callbacks and executors, on every loop."""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from scope_words import as_user, in_function, path, who

from costtrace.scopes import Scope, active, current, enter, leave

try:
    import uvloop
except ImportError:
    uvloop = None

has_eager_tasks = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks: 3.12+")
has_task_groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup: 3.11+")


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request):
    """The constructor of each kind of loop."""
    if request.param == "asyncio":
        return asyncio.new_event_loop
    if uvloop is None:
        pytest.skip("uvloop is not installed")
    return uvloop.new_event_loop


def make_eager(loop):
    """Have a loop run the first step of each task at once, or skip the test."""
    loop.set_task_factory(asyncio.eager_task_factory)
    probe = asyncio.sleep(0)
    try:
        loop.run_until_complete(probe)
    except TypeError:
        probe.close()
        loop.close()
        pytest.skip("this uvloop cannot use this Python's eager factory")


@pytest.fixture
def run(new_loop):
    """Runs a coroutine on a loop of each kind, and closes the loop."""

    def run(coroutine, is_eager=False):
        loop = new_loop()
        if is_eager:
            try:
                make_eager(loop)
            except BaseException:
                coroutine.close()
                raise
        try:
            return loop.run_until_complete(coroutine)
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return run


async def later():
    """Who it is after the loop went on."""
    await asyncio.sleep(0)
    return who()


async def user(name, work):
    """Await `work()` as this user."""
    with as_user(name):
        return await work()


def test_child_tasks(run):
    """Tasks made by create_task, ensure_future and gather are their creator's."""

    async def main():
        with as_user("alice"):
            first = asyncio.create_task(later())
            second = asyncio.ensure_future(later())
            return await asyncio.gather(first, second, later(), asyncio.wait_for(later(), 5))

    assert run(main()) == ["alice"] * 4


@has_task_groups
def test_task_group(run):
    """Tasks of a group are those of whoever made them, not of the group."""

    async def main():
        async with asyncio.TaskGroup() as group:
            with as_user("alice"):
                first = group.create_task(later())
            with as_user("bob"):
                second = group.create_task(later())
            third = group.create_task(later())
        return first.result(), second.result(), third.result()

    assert run(main()) == ("alice", "bob", None)


def test_child_outlives_its_scope(run):
    """A task goes on where it was made, after its creator left the scope."""

    async def child():
        seen = [who()]
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append(who())
        return seen

    async def main():
        with as_user("alice"):
            task = asyncio.create_task(child())
        with as_user("bob"):
            return await task

    assert run(main()) == ["alice"] * 4


def test_grandchildren(run):
    """Children of children inherit too, with what was opened in between."""

    async def grandchild():
        await asyncio.sleep(0)
        return who(), path()

    async def child():
        with in_function("f"):
            return await asyncio.create_task(grandchild())

    async def main():
        with as_user("alice"):
            task = asyncio.create_task(child())
        return await task

    assert run(main()) == ("alice", ("f",))


def test_tasks_do_not_see_each_other(run):
    """What a task enters is its own: neither its creator nor its siblings see it."""

    async def main():
        entered = asyncio.Event()

        async def first():
            with as_user("bob"):
                entered.set()
                await asyncio.sleep(0.01)

        async def second():
            await entered.wait()
            return who()

        with as_user("alice"):
            tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
            await entered.wait()
            assert who() == "alice"
            await tasks[0]
            return await tasks[1]

    assert run(main()) == "alice"


def test_task_from_before_belongs_to_nobody(run):
    """A task that was made before a scope was opened elsewhere is not drawn into it."""

    async def main():
        go = asyncio.Event()

        async def wait():
            await go.wait()
            return who()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        with as_user("alice"):
            go.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return await task

    assert run(main()) is None


@has_eager_tasks
def test_eager_tasks(run):
    """An eager task is its creator's from its first step on, which runs before it is returned."""

    async def child():
        seen = [who()]
        with in_function("f"):
            seen.append(path())
        await asyncio.sleep(0)
        seen.append((who(), path()))
        return seen

    async def main():
        with as_user("alice"):
            task = asyncio.create_task(child())
        with as_user("bob"):
            other = asyncio.create_task(child())
            return await task, await other, who()

    expected = ["alice", ("f",), ("alice", ())]
    other = ["bob", ("f",), ("bob", ())]
    assert run(main(), is_eager=True) == (expected, other, "bob")


@has_eager_tasks
@pytest.mark.parametrize("is_known_before", [False, True])
def test_eager_task_of_a_loop_without_a_factory(is_known_before):
    """Libraries call asyncio's own factory by themselves, also one that they imported earlier."""
    factory = asyncio.eager_task_factory

    async def child():
        first = who()
        await asyncio.sleep(0)
        return first, who()

    async def main():
        with as_user("alice"):
            made = factory if is_known_before else asyncio.eager_task_factory
            task = made(asyncio.get_running_loop(), child())
            assert made is factory
        with as_user("bob"):
            return await task, who()

    assert asyncio.run(main()) == (("alice", "alice"), "bob")
    (cell,) = factory.__closure__
    assert cell.cell_contents is asyncio.Task


@has_eager_tasks
def test_eager_task_that_stays_in_a_scope(run):
    """A scope that an eager task enters in its first step is still there in the second."""

    async def child():
        with as_user("bob"):
            await asyncio.sleep(0)
            return who()

    async def main():
        with as_user("alice"):
            task = asyncio.create_task(child())
            assert who() == "alice"
            return await task

    assert run(main(), is_eager=True) == "bob"


@has_eager_tasks
def test_eager_task_that_waits_at_once(run):
    """An eager task that first of all waits for something comes back as its creator's."""

    async def child():
        await asyncio.sleep(0.001)
        return who()

    async def main():
        with as_user("alice"):
            task = asyncio.create_task(child())
        return await task

    assert run(main(), is_eager=True) == "alice"


@has_eager_tasks
def test_eager_tasks_without_a_scope(run):
    """An eager task of nobody stays nobody's, inside the eager task of somebody too."""

    async def nobody():
        first = who()
        await asyncio.sleep(0)
        return first, who()

    async def main():
        before = asyncio.create_task(nobody())
        with as_user("alice"):
            await asyncio.sleep(0)
        return await before, await asyncio.create_task(nobody())

    assert run(main(), is_eager=True) == ((None, None), (None, None))


@has_eager_tasks
@pytest.mark.parametrize("is_set_inside", [False, True])
def test_eager_tasks_under_a_scope_around_the_loop(new_loop, is_set_inside):
    """The same where the scope surrounds the loop, whenever its factory was set."""
    loop = new_loop()
    make_eager(loop)
    if is_set_inside:
        loop.set_task_factory(None)

    async def child():
        with in_function("f"):
            seen = [(who(), path())]
        await asyncio.sleep(0)
        return [*seen, (who(), path())]

    async def main():
        if is_set_inside:
            loop.set_task_factory(asyncio.eager_task_factory)
        return await asyncio.create_task(child())

    with as_user("alice"):
        seen = loop.run_until_complete(main())
    loop.close()

    assert seen == [("alice", ("f",)), ("alice", ())]


@has_eager_tasks
def test_eager_factory_is_never_replaced(run):
    """The factory stays the one that was set: others recognise it by its code."""

    async def main():
        loop = asyncio.get_running_loop()
        with as_user("alice"):
            assert loop.get_task_factory() is asyncio.eager_task_factory
            await asyncio.create_task(later())
        return loop.get_task_factory()

    assert run(main(), is_eager=True) is asyncio.eager_task_factory


def test_own_task_factory(run):
    """A factory set before or inside a scope is used, and is never touched."""

    class OwnTask(asyncio.Task):
        pass

    def factory(loop, coroutine, **kwargs):
        return OwnTask(coroutine, loop=loop, **kwargs)

    async def main():
        loop = asyncio.get_running_loop()
        with as_user("alice"):
            loop.set_task_factory(factory)
            task = asyncio.create_task(later())
            assert isinstance(task, OwnTask)
            assert loop.get_task_factory() is factory
        assert loop.get_task_factory() is factory
        return await task

    assert run(main()) == "alice"


def test_task_without_create_task(run):
    """A task that somebody constructs directly is its creator's too."""

    async def main():
        loop = asyncio.get_running_loop()
        with as_user("alice"):
            task = asyncio.Task(later(), loop=loop)
        return await task

    assert run(main()) == "alice"


def test_task_written_in_python(run):
    """Tasks that are not written in C carry as well."""

    async def main():
        loop = asyncio.get_running_loop()
        with as_user("alice"):
            task = asyncio.tasks._PyTask(later(), loop=loop)
        with as_user("bob"):
            return await task

    assert run(main()) == "alice"


def test_to_thread_and_executors(run):
    """What runs in an executor stands where it was handed over."""

    async def main():
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool, as_user("alice"):
            return [
                await asyncio.to_thread(who),
                await loop.run_in_executor(None, who),
                await loop.run_in_executor(pool, who),
            ]

    assert run(main()) == ["alice"] * 3


def test_workers_of_the_loop_stay_clean(run):
    """The next user of an executor's thread is not the one who made it start."""

    async def main():
        with as_user("alice"):
            first = await asyncio.to_thread(who)
            with as_user("bob"):
                second = await asyncio.to_thread(who)
        return first, second, await asyncio.to_thread(who)

    assert run(main()) == ("alice", "bob", None)


def test_callbacks(run):
    """call_soon, call_later, call_at and call_soon_threadsafe keep who scheduled them."""

    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        done = asyncio.Event()

        def note(kind):
            seen.append((kind, who()))
            if len(seen) == 5:
                done.set()

        with as_user("alice"):
            loop.call_soon(note, "soon")
            loop.call_later(0.001, note, "later")
            loop.call_at(loop.time() + 0.001, functools.partial(note, "at"))
            loop.call_soon_threadsafe(note, "threadsafe")
        loop.call_soon(note, "nobody")
        with as_user("bob"):
            await done.wait()
        return dict(seen)

    expected = dict.fromkeys(["soon", "later", "at", "threadsafe"], "alice")
    assert run(main()) == {**expected, "nobody": None}


def test_done_callbacks(run):
    """A task's done callback is called where the task stood, not where somebody waited."""

    async def main():
        seen = []
        with as_user("alice"):
            task = asyncio.create_task(later())
            task.add_done_callback(lambda _: seen.append(who()))
            both = asyncio.gather(later(), later())
            both.add_done_callback(lambda _: seen.append(who()))
        with as_user("bob"):
            await task
            await both
            await asyncio.sleep(0)
        return seen

    assert run(main()) == ["alice", "alice"]


def test_future_completed_by_another_user(run):
    """Whoever completes a future does not become the one who waited for it."""

    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        seen = []
        future.add_done_callback(lambda _: seen.append(who()))
        with as_user("bob"):
            future.set_result(None)
            await asyncio.sleep(0)
        return seen

    assert run(main()) == [None]


def test_callback_that_returns_its_handle(run):
    """A bound callback is cancelled like any other."""

    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        with as_user("alice"):
            loop.call_soon(seen.append, "method")
            loop.call_soon(lambda: seen.append("cancelled")).cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return seen

    assert run(main()) == ["method"]


def test_timer_that_sets_itself_again_lets_go(run):
    """A periodic callback does not keep a scope that was left."""

    async def main():
        loop = asyncio.get_running_loop()
        seen = []

        def tick():
            seen.append(who())
            if len(seen) < 4:
                loop.call_soon(tick)

        with as_user("alice"):
            tick()
        while len(seen) < 4:
            await asyncio.sleep(0)
        assert not active()
        return seen

    assert run(main()) == ["alice", "alice", None, None]


def test_scope_around_the_loop(new_loop):
    """`with scope: asyncio.run(main())` covers the main task and all its children."""

    async def main():
        task = asyncio.create_task(later())
        with as_user("bob"):
            inner = await later()
        return who(), inner, await task, await asyncio.to_thread(who)

    with as_user("alice"):
        loop = new_loop()
        seen = loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    assert seen == ("alice", "bob", "alice", "alice")


def test_loop_inside_a_work_item(new_loop):
    """A loop that a pool's worker runs for somebody is theirs, tasks from before are not."""
    loop = new_loop()
    gate = asyncio.Event()

    async def wait():
        await gate.wait()
        return who()

    async def start():
        return asyncio.create_task(wait())

    before = loop.run_until_complete(start())

    async def main():
        gate.set()
        return who(), await asyncio.create_task(later()), await before

    with ThreadPoolExecutor(1) as pool, as_user("alice"):
        seen = pool.submit(loop.run_until_complete, main()).result(5)
    loop.close()

    assert seen == ("alice", "alice", None)


def test_task_left_over_between_runs(new_loop):
    """A task that is pending while its loop stands still comes back as who it was."""
    loop = new_loop()
    gates = {name: asyncio.Event() for name in ("alice", "nobody")}

    async def wait(name):
        await gates[name].wait()
        return who()

    async def start(name):
        return asyncio.create_task(wait(name))

    nobody = loop.run_until_complete(start("nobody"))
    with as_user("alice"):
        alice = loop.run_until_complete(start("alice"))

    async def finish():
        for gate in gates.values():
            gate.set()
        return await nobody, await alice, await asyncio.create_task(later())

    with as_user("bob"):
        seen = loop.run_until_complete(finish())
    loop.close()

    assert seen == (None, "alice", "bob")


def test_several_loops_in_several_threads(new_loop):
    """Loops in different threads know nothing of each other."""
    wrong = []

    def serve(name):
        async def child():
            for _ in range(20):
                await asyncio.sleep(0)
                if who() != name:
                    wrong.append((name, who()))

        async def main():
            with as_user(name):
                await asyncio.gather(*(child() for _ in range(5)))
            return who()

        loop = new_loop()
        wrong.extend([] if loop.run_until_complete(main()) is None else [name])
        loop.close()

    threads = [threading.Thread(target=serve, args=(f"user{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


@pytest.fixture
def background_loop(new_loop):
    """A loop that runs in a thread of its own, started by nobody."""
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_coroutine_handed_to_another_loop(background_loop):
    """run_coroutine_threadsafe takes the scope of the thread that calls it."""

    async def work():
        return who(), await later(), await asyncio.create_task(later())

    with as_user("alice"):
        seen = asyncio.run_coroutine_threadsafe(work(), background_loop).result(5)
    nobody = asyncio.run_coroutine_threadsafe(work(), background_loop).result(5)

    assert seen == ("alice",) * 3
    assert nobody == (None,) * 3


@has_eager_tasks
def test_coroutine_handed_to_another_eager_loop(background_loop):
    """The same where that loop runs tasks eagerly."""
    background_loop.set_task_factory(asyncio.eager_task_factory)
    if (3, 13) <= sys.version_info[:3] < (3, 13, 3) and "uvloop" in type(
        background_loop
    ).__module__:
        pytest.skip("this uvloop cannot use this Python's eager factory")

    async def work():
        return who(), await later(), await asyncio.create_task(later())

    with as_user("alice"):
        seen = asyncio.run_coroutine_threadsafe(work(), background_loop).result(5)

    assert seen == ("alice",) * 3


def test_async_generator_in_another_task(run):
    """A scope inside an async generator stays with the task that entered it."""

    async def numbers():
        with as_user("bob"):
            yield who()
            yield who()

    async def main():
        with as_user("alice"):
            generator = numbers()
            first = await generator.__anext__()

            async def close():
                await generator.aclose()
                return who()

            second = await asyncio.create_task(close())
            return first, second, who()

    assert run(main()) == ("bob", "bob", "alice")


def test_left_by_another_task(run):
    """A scope may be left by a task that did not enter it."""

    async def main():
        visit = enter(Scope(None, user_id="alice"))

        async def leave_it():
            leave(visit)
            return who()

        assert await asyncio.create_task(leave_it()) == "alice"  # it was born inside
        return who()

    assert run(main()) is None


def test_cancelled_task_leaves_its_scopes(run):
    """Cancellation ends scopes like any exception."""

    async def main():
        async def wait():
            with as_user("alice"):
                await asyncio.sleep(3600)

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert active()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return active()

    assert run(main()) is False


def test_thousands_of_tasks_leave_nothing(run):
    """Neither tasks nor scopes are kept once they are done."""

    async def main():
        refs = []
        for number in range(50):
            scope = Scope(None, user_id=f"user{number}")
            visit = enter(scope)
            tasks = [asyncio.create_task(later()) for _ in range(60)]
            assert set(await asyncio.gather(*tasks)) == {f"user{number}"}
            leave(visit)
            refs += [weakref.ref(it) for it in [scope, visit, *tasks]]
            del scope, visit, tasks
        await asyncio.sleep(0)
        gc.collect()
        return sum(ref() is not None for ref in refs)

    assert run(main()) == 0


def test_callbacks_of_another_tool_around_ours():
    """Somebody who wraps call_soon_threadsafe inside a scope keeps working after it."""
    original = asyncio.BaseEventLoop.call_soon_threadsafe
    calls = []

    async def main():
        with as_user("alice"):
            ours = asyncio.BaseEventLoop.call_soon_threadsafe

            def theirs(self, *args, **kwargs):
                calls.append(who())
                return ours(self, *args, **kwargs)

            asyncio.BaseEventLoop.call_soon_threadsafe = theirs
        assert asyncio.BaseEventLoop.call_soon_threadsafe is theirs
        loop = asyncio.get_running_loop()
        asyncio.BaseEventLoop.call_soon_threadsafe(loop, who)
        with as_user("bob"):
            asyncio.BaseEventLoop.call_soon_threadsafe(loop, who)
        await asyncio.sleep(0)  # the callback was carrying still
        assert asyncio.BaseEventLoop.call_soon_threadsafe is theirs
        asyncio.BaseEventLoop.call_soon_threadsafe = ours  # they take theirs off again
        with as_user("carol"):
            pass
        assert asyncio.BaseEventLoop.call_soon_threadsafe is original

    asyncio.run(main())
    assert calls[:2] == [None, "bob"]


def test_another_tool_below_ours():
    """Somebody who wrapped the same method before us is called, and restored."""
    original = asyncio.BaseEventLoop._call_soon
    calls = []

    def theirs(self, callback, args, context):
        calls.append(callback)
        return original(self, callback, args, context)

    async def main():
        with as_user("alice"):
            task = asyncio.create_task(later())
            python = asyncio.tasks._PyTask(later(), loop=asyncio.get_running_loop())
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(lambda: future.set_result(who()))
        return await task, await python, await future

    asyncio.BaseEventLoop._call_soon = theirs
    try:
        assert asyncio.run(main()) == ("alice",) * 3
        assert asyncio.BaseEventLoop._call_soon is theirs
    finally:
        asyncio.BaseEventLoop._call_soon = original
    assert calls


def test_debug_mode(new_loop):
    """A loop in debug mode checks and reports as ever."""
    loop = new_loop()
    loop.set_debug(True)

    async def main():
        seen = loop.create_future()
        with as_user("alice"):
            handle = loop.call_soon(lambda: seen.set_result(who()))
            assert "test_debug_mode" in repr(handle)
            if new_loop is asyncio.new_event_loop:  # uvloop does not look
                with pytest.raises(TypeError, match="callable"):
                    loop.call_soon(None)
            return await seen, await asyncio.create_task(later()), await asyncio.to_thread(who)

    seen = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert seen == ("alice",) * 3


def test_strange_loop():
    """A loop class that schedules in its own way is hooked where a scope is entered on it."""

    class Strange(asyncio.SelectorEventLoop):
        def call_soon(self, callback, *args, context=None):
            handle = asyncio.Handle(callback, args, self, context)
            self._ready.append(handle)
            return handle

    original = Strange.call_soon
    loop = Strange()

    async def main():
        with as_user("alice"):
            task = asyncio.create_task(later())
        return await task

    async def inherits():
        return await asyncio.create_task(later())

    assert loop.run_until_complete(main()) == "alice"
    with as_user("bob"):
        assert loop.run_until_complete(inherits()) == "bob"
    loop.close()
    assert Strange.call_soon is original


def test_asyncio_imported_inside_the_scope():
    """A program that imports asyncio only inside its scope is covered all the same."""
    import subprocess

    code = """
import sys
from costtrace.scopes import Scope, Stay, current, active
def who(): return current() and current().user_id
with Stay(Scope(None, user_id="alice")):
    assert "asyncio" not in sys.modules
    import asyncio
    async def child():
        await asyncio.sleep(0)
        return who()
    async def main():
        sibling = asyncio.create_task(child())
        with Stay(Scope(current(), user_id="bob")):
            mine = await asyncio.create_task(child())
        return who(), await sibling, mine, await asyncio.create_task(child())
    assert asyncio.run(main()) == ("alice", "alice", "bob", "alice"), asyncio.run(main())
assert current() is None and not active()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_current_in_a_loop_without_scopes(run):
    """Reading costs nothing and finds nothing where no scope was ever opened."""

    async def main():
        return current()

    assert run(main()) is None
