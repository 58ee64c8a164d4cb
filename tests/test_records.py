"""Records that are made quickly are frozen dataclasses in all that can be seen of them."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from costtrace import Usage
from costtrace.records import quickly_made


@dataclass(frozen=True, slots=True)
class Plain:
    name: str
    count: int = 0
    tags: dict[str, str] = field(default_factory=dict)


@quickly_made()
@dataclass(frozen=True, slots=True)
class Quick:
    name: str
    count: int = 0
    tags: dict[str, str] = field(default_factory=dict)


def test_it_takes_the_same_arguments():
    """By place and by name, with the same defaults, each factory called anew."""
    quick = Quick("a", tags={"b": "c"})
    assert (quick.name, quick.count, quick.tags) == ("a", 0, {"b": "c"})
    assert Quick("a").tags is not Quick("a").tags
    for wrong in ({}, {"name": "a", "colour": "red"}):
        with pytest.raises(TypeError):
            Plain(**wrong)
        with pytest.raises(TypeError):
            Quick(**wrong)
    assert list(inspect.signature(Quick).parameters) == list(inspect.signature(Plain).parameters)


def test_it_stays_frozen():
    """Nothing can be set, added or deleted once it is made."""
    quick = Quick("a")
    with pytest.raises(FrozenInstanceError):
        quick.name = "b"  # type: ignore[misc]
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        quick.other = 1  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        del quick.name
    assert type(quick) is Quick


def test_it_is_copied_compared_and_pickled():
    """As any dataclass is."""
    usage = Usage(1, 2, seconds=3)
    assert pickle.loads(pickle.dumps(usage)) == copy.deepcopy(usage) == replace(usage) == usage
    assert hash(usage) == hash(replace(usage, seconds=3))
    assert usage != replace(usage, seconds=4)
    assert [each.name for each in fields(Quick)] == [each.name for each in fields(Plain)]
    assert repr(Quick("a")) == repr(Plain("a")).replace("Plain", "Quick")


def test_counts_are_checked():
    """Every count that is given, also through `replace`, and whatever it equals."""
    with pytest.raises(TypeError, match="seconds must be an int, not bool False"):
        Usage(seconds=False)
    with pytest.raises(TypeError, match="images must be an int, not float"):
        replace(Usage(), images=0.0)
    with pytest.raises(ValueError, match="characters must not be negative, but is -1"):
        Usage(characters=-1)
