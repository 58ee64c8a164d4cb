"""A scope knows everything about the functions and budgets around it."""

from __future__ import annotations

import pytest

from costtrace.scopes import Scope


def test_without_function_and_user():
    """An empty scope is nobody's, in no function."""
    scope = Scope()

    assert scope.parent is None
    assert scope.function_name == "unknown"
    assert scope.call_path == ()
    assert scope.user_id == "anon"
    assert scope.budgets == ()
    assert dict(scope.tags) == {}
    assert scope.ledger is None


def test_functions_form_a_path():
    """The path holds every tracked function, and the innermost one is the function."""
    outer = Scope(None, function_name="outer")
    middle = Scope(outer, user_id="alice")
    inner = Scope(middle, function_name="inner")

    assert inner.call_path == ("outer", "inner")
    assert inner.function_name == "inner"
    assert middle.function_name == "outer"


def test_recursion_is_one_name_per_level():
    """A function that calls itself appears once for each level."""
    scope = None
    for _ in range(3):
        scope = Scope(scope, function_name="walk")

    assert scope.call_path == ("walk", "walk", "walk")


def test_innermost_user_pays_and_all_budgets_are_known():
    """The innermost named user is the user; every budget around is kept, outside in."""
    outer = Scope(None, budget="company", user_id="acme")
    inner = Scope(outer, budget="person", user_id="alice")
    function = Scope(inner, function_name="f")

    assert function.user_id == "alice"
    assert function.budgets == ("company", "person")


def test_inner_tags_win():
    """Tags of all scopes merge; where two disagree the inner one is right."""
    outer = Scope(None, tags={"team": "search", "env": "prod"})
    inner = Scope(outer, tags={"team": "chat"})

    assert dict(inner.tags) == {"team": "chat", "env": "prod"}
    assert dict(outer.tags) == {"team": "search", "env": "prod"}


def test_tags_are_shared_until_one_is_added():
    """A scope without tags of its own costs no copy."""
    outer = Scope(None, tags={"team": "search"})

    assert Scope(outer, function_name="f").tags is outer.tags


def test_tags_are_a_copy():
    """What the caller does with its mapping later changes nothing."""
    tags = {"team": "search"}
    scope = Scope(None, tags=tags)
    tags["team"] = "chat"

    assert scope.tags["team"] == "search"
    with pytest.raises(TypeError):
        scope.tags["team"] = "chat"


def test_nearest_named_ledger():
    """A scope without a ledger uses that of the nearest one around that names one."""
    outer = Scope(None, ledger="first")
    inner = Scope(Scope(outer, function_name="f"), ledger="second")

    assert Scope(outer, function_name="f").ledger == "first"
    assert Scope(inner, user_id="x").ledger == "second"


@pytest.mark.parametrize("name", ["user_id", "parent", "other"])
def test_never_changes(name):
    """A scope may be read from any thread, because nobody can change it."""
    scope = Scope(None, user_id="alice")

    with pytest.raises(AttributeError, match="never changes"):
        setattr(scope, name, "bob")
    with pytest.raises(AttributeError, match="never changes"):
        delattr(scope, name)


def test_shows_user_and_path():
    """The text of a scope says who and where."""
    scope = Scope(Scope(None, user_id="alice", function_name="f"), function_name="g")

    assert repr(scope) == "<Scope 'alice' f > g>"
