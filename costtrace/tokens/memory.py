"""The memory of a conversation: what was counted once is not counted again."""

from __future__ import annotations

from collections.abc import Hashable


class CountMemory:
    """Counts by key, at most `limit` of them, the longest unused forgotten first (roughly).

    Two generations take the place of a linked list: when the young one is full it becomes the old
    one, and what is asked for in the old one moves back. So there is no lock to wait for, which
    matters when two hundred turns are looked up before a call: threads that meet at the change of
    generations forget a few counts, no more. Keys are hashes; a text itself is never kept.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        self._young: dict[Hashable, int] = {}
        self._old: dict[Hashable, int] = {}

    def get(self, key: Hashable) -> int | None:
        """Return the count remembered under `key`, None if there is none."""
        count = self._young.get(key)
        if count is None:
            count = self._old.get(key)
            if count is not None:
                self.put(key, count)
        return count

    def put(self, key: Hashable, count: int) -> None:
        """Remember `count` under `key`."""
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = count

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}
