"""carry() binds a scope to a callable, for the places that no hook reaches."""

from __future__ import annotations

import _thread
import asyncio
import functools
import inspect
import threading

import pytest
from scope_words import as_user, in_function, path, who

from costtrace.scopes import active, carry


def raw_thread(function):
    """What `function` returns in a thread that the threading module does not know."""
    seen, done = [], threading.Event()

    def work():
        seen.append(function())
        done.set()

    _thread.start_new_thread(work, ())
    done.wait(60)
    return seen[0]


def test_function_in_a_raw_thread():
    """Where no hook reaches, the bound scope is there nonetheless."""
    with as_user("alice"), in_function("f"):
        assert raw_thread(who) is None
        bound = carry(lambda: (who(), path()))
        assert raw_thread(bound) == ("alice", ("f",))
    assert raw_thread(bound) == ("alice", ("f",))
    assert not active()


def test_open_while_it_runs():
    """A bound function opens the process for the time of its call."""
    with as_user("alice"):
        bound = carry(active)
    assert not active()
    assert bound() is True
    assert not active()


def test_without_a_scope():
    """There is nothing to bind, so the function stays what it is."""
    assert carry(who) is who


def test_binds_over_the_scope_of_the_caller():
    """A bound function stands where it was bound, not where it is called."""
    with as_user("alice"):
        bound = carry(who)
    with as_user("bob"):
        assert bound() == "alice"
        assert who() == "bob"


def test_coroutine_function():
    """A bound coroutine function is one, and stands there while it runs."""

    async def work():
        await asyncio.sleep(0)
        return who()

    with as_user("alice"):
        bound = carry(work)
    assert inspect.iscoroutinefunction(bound)

    async def main():
        with as_user("bob"):
            return await bound(), who()

    assert asyncio.run(main()) == ("alice", "bob")


def test_generators():
    """Bound generators are entered per step."""

    def numbers():
        yield who()

    async def async_numbers():
        yield who()

    async def main():
        return [item async for item in carried_async()]

    with as_user("alice"):
        carried, carried_async = carry(numbers), carry(async_numbers)
    assert inspect.isgeneratorfunction(carried)
    generator = carried()
    assert next(generator) == "alice"
    assert who() is None
    assert asyncio.run(main()) == ["alice"]


def test_callable_object_with_an_async_call():
    """Objects are told apart by their __call__."""

    class Work:
        async def __call__(self):
            await asyncio.sleep(0)
            return who()

    with as_user("alice"):
        bound = carry(Work())

    async def main():
        return await bound()

    assert asyncio.run(main()) == "alice"


def test_signature_stays():
    """Name, documentation and signature are those of the function."""

    def work(a: int, *, b: str = "x") -> str:
        """What it does."""
        return f"{a}{b}"

    with as_user("alice"):
        bound = carry(work)
    assert bound.__name__ == "work"
    assert bound.__doc__ == "What it does."
    assert inspect.signature(bound) == inspect.signature(work)
    assert bound(1, b="y") == "1y"


def test_partial_and_method():
    """Partials and methods are bound like functions."""

    class Owner:
        def name(self, suffix):
            return f"{who()}{suffix}"

    with as_user("alice"):
        method, partial = carry(Owner().name), carry(functools.partial(Owner().name, "?"))
    assert method("!") == "alice!"
    assert partial() == "alice?"


def test_not_callable():
    """Something that cannot be called is refused at once."""
    with as_user("alice"), pytest.raises(TypeError, match="callable, not int"):
        carry(3)
