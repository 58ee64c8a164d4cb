"""Whether an answer is right: by the text that is expected in it, or by a check of the user's."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

Check: TypeAlias = Callable[[str], Any]
"""Gets an answer's text; what it returns is taken as true or false."""
Expected: TypeAlias = "str | Check | None"


class Mark(NamedTuple):
    """Whether an answer is right; None where nothing was asked of it."""

    correct: bool | None = None
    error: str | None = None
    """What a check raised instead of deciding; its answer counts as wrong."""


class Marking:
    """What the answers to each prompt must satisfy.

    `expected` is one text for all prompts or a list with one for each; a text must stand in the
    answer, as `holds` says. In its place a callable decides like `check`, which is asked of every
    answer; with both, both must agree. Raises `TypeError` or `ValueError` for anything else.
    """

    def __init__(self, expected: object, check: object, prompts: int, *, is_async: bool) -> None:
        if check is not None and not callable(check):
            raise TypeError(f"check must be callable, not {type(check).__name__}")
        self._checks = [
            [_check(one, is_async) for one in (wanted, check) if one is not None]
            for wanted in _for_each(expected, prompts)
        ]

    def mark(self, prompt: int, text: str | None) -> Mark:
        """Mark an answer to the prompt of this number; None is no answer, and never right."""
        checks = self._checks[prompt]
        if text is None or not checks:
            return Mark(False if checks else None)
        try:
            return Mark(all(bool(check(text)) for check in checks))
        except Exception as error:
            return _failed(error)

    async def amark(self, prompt: int, text: str | None) -> Mark:
        """Mark an answer with checks that may be coroutine functions."""
        checks = self._checks[prompt]
        if text is None or not checks:
            return Mark(False if checks else None)
        try:
            for check in checks:
                verdict = check(text)
                if not (await verdict if hasattr(verdict, "__await__") else verdict):
                    return Mark(False)
        except Exception as error:
            return _failed(error)
        return Mark(True)


def holds(text: str, expected: str) -> bool:
    """Tell whether `expected` stands in `text`: as whole words, whatever the case.

    A number must be the whole number, so that 4 is in "It is 4." and not in "42", "0.4" or "-4".

    >>> holds("The capital is Paris.", "paris"), holds("Comparison", "Paris")
    (True, False)
    """
    wanted = " ".join(expected.casefold().split())
    before = r"(?<!\w)(?<!\d[.,])" if wanted[0].isalnum() else ""
    before += r"(?<!-)" if wanted[0].isdigit() else ""
    after = r"(?!\w)(?![.,]\d)" if wanted[-1].isalnum() else ""
    return bool(re.search(before + re.escape(wanted) + after, " ".join(text.casefold().split())))


def _for_each(expected: object, prompts: int) -> list[object]:
    if expected is None or isinstance(expected, str) or callable(expected):
        return [expected] * prompts
    if not isinstance(expected, (list, tuple)):
        raise TypeError(
            "expected must be a text, a callable or a list with one of them for each prompt, "
            f"not {type(expected).__name__}"
        )
    if len(expected) != prompts:
        raise ValueError(f"expected has {len(expected)} texts for {prompts} prompts")
    return list(expected)


def _check(wanted: object, is_async: bool) -> Check:
    if isinstance(wanted, str):
        text = wanted
        if not text.strip():
            raise ValueError("expected must not be empty")
        return lambda answer: holds(answer, text)
    if not callable(wanted):
        raise TypeError(f"expected must be a text or a callable, not {type(wanted).__name__}")
    if inspect.iscoroutinefunction(wanted) and not is_async:
        raise TypeError("a check that is a coroutine function needs acompare_models")
    return wanted


def _failed(error: Exception) -> Mark:
    return Mark(False, f"the check raised {type(error).__name__}: {error}")
