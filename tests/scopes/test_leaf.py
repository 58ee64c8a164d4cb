"""Where a piece of work stands, entered and left in any order."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from scope_words import as_user, in_function, path, who

from costtrace.scopes import Scope, Stay, active, current, enter, leave


def test_nowhere():
    """Without a scope there is nothing to read."""
    assert current() is None


def test_inner_scope_ends_where_it_ends():
    """Inside the inner scope it counts, after it the outer one again."""
    with as_user("alice"):
        with as_user("bob"):
            assert who() == "bob"
        assert who() == "alice"
    assert who() is None


def test_error_leaves_the_scope():
    """An exception passes through and the scope is left."""
    with pytest.raises(KeyError), as_user("alice"):
        raise KeyError

    assert who() is None


def test_leaving_the_outer_first_leaves_the_inner_alone():
    """Exits need not be in order: each ends its own visit."""
    outer = enter(Scope(None, user_id="alice"))
    inner = enter(Scope(current(), user_id="bob"))

    leave(outer)
    assert who() == "bob"
    leave(inner)
    assert who() is None
    refs = [weakref.ref(outer), weakref.ref(inner)]
    del outer, inner
    assert [ref() for ref in refs] == [None, None]


def test_leaving_twice_does_nothing():
    """The second time is harmless, also when somebody else entered meanwhile."""
    visit = enter(Scope(None, user_id="alice"))
    leave(visit)
    with as_user("bob"):
        leave(visit)
        assert who() == "bob"
        assert active()


def test_one_scope_entered_twice_is_two_visits():
    """Each stay is its own, even in the same scope."""
    scope = Scope(None, user_id="alice")
    first, second = enter(scope), enter(scope)

    leave(first)
    assert current() is scope
    leave(second)
    assert current() is None


def test_two_interleaved_generators():
    """Generators that hold a scope over a yield end each its own, in either order."""

    def user(name):
        with as_user(name):
            yield who()

    first, second = user("alice"), user("bob")
    assert (next(first), next(second)) == ("alice", "bob")
    first.close()
    assert who() == "bob"
    second.close()
    assert who() is None


def test_overlapping_visits_do_not_pile_up():
    """Scopes that always overlap by one keep no chain of those that were left."""
    visit = enter(Scope(None, user_id="first"))
    left = []
    for _ in range(200):
        following = enter(Scope(None, user_id="next"))
        leave(visit)
        left.append(weakref.ref(visit))
        visit = following
    leave(visit)
    del visit, following

    assert sum(ref() is not None for ref in left) <= 2


def test_left_from_another_thread():
    """A scope may be left by a thread that did not enter it."""
    visit = enter(Scope(None, user_id="alice"))
    thread = threading.Thread(target=leave, args=(visit,))
    thread.start()
    thread.join()

    assert who() is None
    assert not active()


def test_each_thread_stands_by_itself():
    """What one thread enters, others that ran before do not see."""
    entered, asked = threading.Event(), threading.Event()
    seen = []

    def look():
        entered.wait(60)
        seen.append(who())
        asked.set()

    thread = threading.Thread(target=look)
    thread.start()
    with as_user("alice"):
        entered.set()
        assert asked.wait(60)
    thread.join()

    assert seen == [None]


def test_abandoned_scope_ends_with_its_thread():
    """A thread that ends inside a scope takes the scope along."""
    thread = threading.Thread(target=lambda: enter(Scope(None, user_id="alice")))
    thread.start()
    thread.join()
    gc.collect()

    assert not active()


def test_abandoned_generator_leaves_its_scope():
    """A generator that nobody finishes leaves its scope when it is collected."""

    def user():
        with as_user("alice"):
            yield

    generator = user()
    next(generator)
    del generator
    gc.collect()

    assert who() is None
    assert not active()


def test_scope_is_forgotten_when_left():
    """Nothing keeps a scope that was left."""
    scope = Scope(None, user_id="alice")
    ref = weakref.ref(scope)
    with Stay(scope):
        pass
    del scope

    assert ref() is None


def test_parent_is_where_it_was_opened():
    """Functions called inside functions form the path, and siblings do not see each other."""
    with in_function("a"):
        with in_function("b"):
            assert path() == ("a", "b")
        with in_function("c"):
            assert path() == ("a", "c")
