"""Any interleaving of enter, leave, spawn, switch, abandon and raise agrees with a simple model.

The model: a place (a task or a thread) is a list of visits over what it inherited; leaving takes
a visit out of the list it is in, wherever that is; the last of the list is where the place stands.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costtrace.scopes import Scope, active, current, enter, leave


@pytest.fixture(autouse=True, scope="module")
def _collector_looks_at_what_is_new():
    """Each example collects: what the tests before have left in memory need not be looked at."""
    gc.collect()
    gc.freeze()


RULES = settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "leave", "leave_any", "spawn", "thread", "raise", "abandon"]),
        st.integers(0, 7),  # which place
        st.integers(0, 7),  # which visit
    ),
    max_size=40,
)


class Place:
    """What the model knows of a task or thread."""

    def __init__(self, base=None, lender=None):
        self.base = base  # a task: the name it inherited, for life
        self.lender = lender  # a thread: the visits it borrowed, as far as they are open
        self.visits = []

    def chain(self):
        """The visits that count here and may be lent, innermost first, then the base."""
        mine = [visit for visit in reversed(self.visits) if visit.is_open]
        lent = [visit for visit in self.lender or [] if getattr(visit, "is_open", True)]
        return [*mine, *lent, *([self.base] if self.base else [])]

    def expected(self):
        """The name that current() must find."""
        chain = self.chain()
        return None if not chain else chain[0].name


class Named:
    """A visit of the model, or a base that is inherited for life."""

    def __init__(self, name, token=None):
        self.name = name
        self.token = token
        self.is_open = True


class Actor:
    """A real task or thread that does what it is told, one step at a time."""

    def __init__(self, place):
        self.place = place

    def enter(self, name):
        """Enter a scope of this name."""
        return enter(Scope(current(), user_id=name))

    def seen(self):
        """The name of the present scope."""
        scope = current()
        return None if scope is None else scope.user_id


class BoomError(Exception):
    """Raised inside a scope."""


class Run:
    """Executes steps on real places and on the model, and compares after each."""

    def __init__(self):
        self.count = 0

    def name(self):
        """A new user."""
        self.count += 1
        return f"u{self.count}"

    @staticmethod
    def all_visits(places):
        """Every open visit, with the place it was entered in."""
        return [(p, v) for p in places for v in p.visits if v.is_open]

    def apply(self, kind, actor, places, pick):
        """One step in one place; returns what a new place inherits, if there is one."""
        place = actor.place
        if kind == "enter":
            name = self.name()
            place.visits.append(Named(name, actor.enter(name)))
        elif kind == "leave" and (open_here := [v for v in place.visits if v.is_open]):
            self.close(open_here[pick % len(open_here)])
        elif kind == "leave_any" and (every := self.all_visits(places)):
            self.close(every[pick % len(every)][1])
        elif kind == "raise":
            visit = Named(self.name())
            with pytest.raises(BoomError):
                self.enter_and_raise(actor, visit)
        elif kind == "abandon":
            generator = self.abandoned(actor)
            next(generator)
            del generator

    @staticmethod
    def close(visit):
        """Leave, and leave again."""
        visit.is_open = False
        leave(visit.token)
        leave(visit.token)

    @staticmethod
    def enter_and_raise(actor, visit):
        """A scope that an exception leaves."""
        token = actor.enter(visit.name)
        try:
            assert actor.seen() == visit.name
            raise BoomError
        finally:
            leave(token)

    def abandoned(self, actor):
        """A generator that is collected inside its scope."""
        token = actor.enter(self.name())
        try:
            yield
        finally:
            leave(token)


@RULES
@given(STEPS)
def test_tasks(steps):
    """Tasks that spawn tasks: each stands where the model says, after every step of any of them."""
    run = Run()
    places = []

    async def actor_task(actor, inbox):
        while (order := await inbox.get()) is not None:
            order(actor)
            assert actor.seen() == actor.place.expected()

    async def main():
        tasks, inboxes, actors = [], [], []

        def new_task(place):
            inbox = asyncio.Queue()
            places.append(place)
            inboxes.append(inbox)
            actors.append(Actor(place))
            tasks.append(asyncio.create_task(actor_task(actors[-1], inbox)))

        async def tell(number, order):
            done = asyncio.get_running_loop().create_future()

            def carry_out(actor):
                try:
                    done.set_result(order(actor))
                except BaseException as error:
                    done.set_exception(error)

            inboxes[number].put_nowait(carry_out)
            await done
            # Nobody else moved: every place stands where it stood.
            await asyncio.gather(*(look(other) for other in range(len(places))))

        async def look(number):
            done = asyncio.get_running_loop().create_future()
            inboxes[number].put_nowait(lambda actor: done.set_result(actor.seen()))
            assert await done == places[number].expected()

        new_task(Place())
        for kind, which, pick in steps:
            number = which % len(places)
            place = places[number]
            if kind in ("spawn", "thread"):
                chain = place.chain()
                base = Named(chain[0].name) if chain else None

                def spawn(_, base=base):
                    new_task(Place(base=base))

                await tell(number, spawn)
            else:
                await tell(number, lambda actor, k=kind, p=pick: run.apply(k, actor, places, p))
        for _, visit in run.all_visits(places):
            run.close(visit)
        for number in range(len(places)):
            await look(number)
        for inbox in inboxes:
            inbox.put_nowait(None)
        await asyncio.gather(*tasks)

    asyncio.run(main())
    gc.collect()
    assert not active()
    assert current() is None


@RULES
@given(STEPS)
def test_threads(steps):
    """Threads that start threads: each stands where the model says, after every step."""
    run = Run()
    places, inboxes, threads = [], [], []
    answers: queue.Queue = queue.Queue()

    def actor_thread(actor, inbox):
        while (order := inbox.get()) is not None:
            try:
                answers.put((order(actor), None))
            except BaseException as error:
                answers.put((None, error))

    def new_thread(place):
        inbox = queue.Queue()
        places.append(place)
        inboxes.append(inbox)
        threads.append(threading.Thread(target=actor_thread, args=(Actor(place), inbox)))
        threads[-1].start()

    def tell(number, order):
        inboxes[number].put(order)
        answer, error = answers.get(timeout=60)
        if error is not None:
            raise error
        return answer

    def compare():
        for number, place in enumerate(places):
            assert tell(number, lambda actor: actor.seen()) == place.expected()

    try:
        new_thread(Place())
        for kind, which, pick in steps:
            number = which % len(places)
            if kind in ("spawn", "thread"):
                if len(places) < 6:
                    lent = places[number].chain()
                    tell(number, lambda _, lent=lent: new_thread(Place(lender=lent)))
            else:
                tell(number, lambda actor, k=kind, p=pick: run.apply(k, actor, places, p))
            compare()
        for _, visit in run.all_visits(places):
            run.close(visit)
        compare()
    finally:
        for inbox in inboxes:
            inbox.put(None)
        for thread in threads:
            thread.join(10)
    gc.collect()
    assert not active()


@RULES
@given(STEPS)
def test_work_items(steps):
    """Work items of one shared worker: each is its submitter's, whatever the one before did."""
    from concurrent.futures import ThreadPoolExecutor

    run = Run()
    place = Place()
    actor = Actor(place)

    def litter(name):
        """An item that abandons a scope: its token is dropped with the item's result."""
        seen = actor.seen()
        enter(Scope(current(), user_id=name))
        return seen

    with ThreadPoolExecutor(1) as pool:
        for kind, _, pick in steps:
            if kind in ("spawn", "thread"):
                expected = place.expected()
                assert pool.submit(litter, run.name()).result(10) == expected
                assert pool.submit(actor.seen).result(10) == expected
            else:
                run.apply(kind, actor, [place], pick)
                assert actor.seen() == place.expected()
        for _, visit in run.all_visits([place]):
            run.close(visit)
        assert pool.submit(actor.seen).result(10) is None
    assert current() is None
