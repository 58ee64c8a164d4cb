"""A generator's scope is open only while its own body runs."""

from __future__ import annotations

import asyncio

import pytest
from scope_words import as_user, in_function, path, step_of, who

from costtrace.scopes import Scope, Step, active, current, drive, drive_async


def stepped(generator, name="gen"):
    """The generator, with a function of this name entered per step."""
    return drive(generator, step_of(name))


def test_open_in_the_body_only():
    """Between the steps the consumer stands where it stood."""

    def body():
        yield path()
        yield path()

    generator = stepped(body())
    assert not active()
    assert next(generator) == ("gen",)
    assert path() == ()
    assert not active()
    assert next(generator) == ("gen",)
    assert list(generator) == []


def test_each_step_belongs_to_whoever_asks():
    """A step is a child of the consumer's scope at that moment."""

    def body():
        while True:
            yield who(), path()

    generator = stepped(body())
    with as_user("alice"), in_function("f"):
        assert next(generator) == ("alice", ("f", "gen"))
    with as_user("bob"):
        assert next(generator) == ("bob", ("gen",))
    assert next(generator) == ("anon", ("gen",))
    generator.close()


def test_scope_is_made_once():
    """Only its place changes with who asks, so a budget of its own is not opened anew."""
    made = []

    def make(parent):
        made.append(parent)
        return Scope(parent, function_name="gen", budget="own", tags={"a": "b"})

    def body():
        while True:
            yield current()

    generator = drive(body(), Step(make))
    first = next(generator)
    with as_user("bob"), in_function("f"):
        second = next(generator)
    generator.close()
    assert made == [None]
    assert (first.budgets, first.call_path) == (("own",), ("gen",))
    assert (second.budgets, second.call_path, second.user_id) == (("own",), ("f", "gen"), "bob")
    assert second.tags == first.tags == {"a": "b"}


def test_closing_belongs_to_the_last_step():
    """A generator that is thrown away in another user's scope ends in its own."""
    seen = []

    def body():
        try:
            yield
        finally:
            seen.append((who(), path()))

    with as_user("alice"):
        generator = stepped(body())
        next(generator)
    with as_user("bob"):
        del generator
        assert who() == "bob"
    assert seen == [("alice", ("gen",))]


@pytest.mark.parametrize("how", ["exhausted", "closed", "raised", "thrown away", "never begun"])
def test_end_is_told_once(how):
    """With all scopes of its steps that are still referred to."""
    told, kept = [], []
    step = step_of("gen")

    def body():
        kept.append(current())
        yield
        kept.append(current())
        yield
        if how == "raised":
            raise KeyError

    def ended(is_closed):
        told.append((is_closed, len(list(step.scopes()))))

    generator = drive(body(), step, ended)
    if how != "never begun":
        with as_user("alice"):
            next(generator)
        next(generator)
    if how == "raised":
        with pytest.raises(KeyError):
            next(generator)
    elif how == "exhausted":
        assert list(generator) == []
    elif how == "closed":
        generator.close()
    del generator

    is_early = how in ("closed", "thrown away")
    assert told == ([] if how == "never begun" else [(is_early, 2)])


def test_interleaved():
    """Two generators consumed in turns do not see each other."""

    def body():
        for _ in range(3):
            yield path()

    both = zip(stepped(body(), "a"), stepped(body(), "b"), strict=True)
    assert list(both) == [(("a",), ("b",))] * 3


def test_nested_generators():
    """A generator that consumes another one stands around its steps."""

    def inner():
        yield path()

    def outer():
        yield from stepped(inner(), "inner")
        yield path()

    assert list(stepped(outer(), "outer")) == [("outer", "inner"), ("outer",)]


def test_send_throw_close_and_return():
    """The whole protocol of generators passes through, inside the scope."""
    seen = []

    def body():
        try:
            got = yield "first"
            seen.append((got, path()))
            try:
                yield "second"
            except KeyError:
                seen.append(("caught", path()))
            yield "third"
        finally:
            seen.append(("closed", path()))

    generator = stepped(body())
    assert next(generator) == "first"
    assert generator.send("sent") == "second"
    assert generator.throw(KeyError) == "third"
    generator.close()
    assert seen == [("sent", ("gen",)), ("caught", ("gen",)), ("closed", ("gen",))]


def test_value_and_error_of_the_end():
    """What a generator returns or raises reaches the consumer."""

    def returns():
        yield
        return "value"

    def raises():
        yield
        raise ValueError("broken")

    def delegate():
        result = yield from stepped(returns())
        yield result

    assert list(delegate()) == [None, "value"]
    with pytest.raises(ValueError, match="broken"):
        list(stepped(raises()))
    assert path() == ()


def test_abandoned_generator_closes_inside_its_scope():
    """A generator that nobody finishes runs its finally block in its own scope."""
    seen = []

    def body():
        try:
            yield
        finally:
            seen.append(path())

    generator = stepped(body())
    next(generator)
    del generator

    assert seen == [("gen",)]


def test_async_generator():
    """Awaits inside a step belong to it, and the consumer never stands there."""

    async def body():
        for _ in range(2):
            await asyncio.sleep(0)
            yield path()

    async def main():
        generator = drive_async(body(), step_of("gen"))
        seen = []
        async for item in generator:
            seen.append((item, path()))
            await asyncio.sleep(0)
        return seen

    assert asyncio.run(main()) == [(("gen",), ())] * 2


def test_async_generator_protocol():
    """asend, athrow and aclose pass through, inside the scope."""
    seen = []

    async def body():
        try:
            seen.append(((yield "first"), path()))
            try:
                yield "second"
            except KeyError:
                seen.append(("caught", path()))
            yield "third"
        finally:
            await asyncio.sleep(0)
            seen.append(("closed", path()))

    async def main():
        generator = drive_async(body(), step_of("gen"))
        assert await generator.asend(None) == "first"
        assert await generator.asend("sent") == "second"
        assert await generator.athrow(KeyError) == "third"
        await generator.aclose()
        with pytest.raises(StopAsyncIteration):
            await generator.asend(None)

    asyncio.run(main())
    assert seen == [("sent", ("gen",)), ("caught", ("gen",)), ("closed", ("gen",))]


def test_async_generators_of_many_users():
    """Streams that are consumed at the same time keep their users apart."""

    async def body():
        for _ in range(5):
            await asyncio.sleep(0)
            yield who(), path()

    async def consume(name):
        with as_user(name):
            return [item async for item in drive_async(body(), step_of("s"))]

    async def main():
        return await asyncio.gather(*(consume(f"u{n}") for n in range(20)))

    assert asyncio.run(main()) == [[(f"u{n}", ("s",))] * 5 for n in range(20)]


def test_cancelled_inside_a_step():
    """Cancellation during a step leaves the scope."""

    async def body():
        await asyncio.sleep(3600)
        yield

    async def main():
        generator = drive_async(body(), step_of("gen"))
        task = asyncio.ensure_future(anext(generator))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return active()

    assert asyncio.run(main()) is False
