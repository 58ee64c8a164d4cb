"""Alerts that have fired: each once, and kept until somebody says that it was delivered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from costtrace.stores.base import Crossing, Watch, user_owner

_USER = user_owner("")


@dataclass(slots=True)
class _Latch:
    crossing: Crossing
    handed_out_us: int
    is_delivered: bool = False


class Latches:
    """The alerts of a MemoryStore. Not safe from several threads: the store has the lock."""

    def __init__(self) -> None:
        self._latches: dict[str, _Latch] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._latches

    def all(self) -> Iterator[tuple[Crossing, bool]]:
        """Yield every crossing, and whether it was delivered."""
        for latch in self._latches.values():
            yield latch.crossing, latch.is_delivered

    def latch(self, crossings: Iterable[Crossing], now_us: int) -> None:
        """Note crossings that are being handed to whoever settled the call."""
        for crossing in crossings:
            self._latches[crossing.watch.key] = _Latch(crossing, now_us)

    def undelivered(self, now_us: int, older_than_s: float) -> list[Crossing]:
        """Hand out what was handed out longer ago than this and never delivered."""
        due_us = now_us - int(older_than_s * 1_000_000)
        found = []
        for latch in self._latches.values():
            if not latch.is_delivered and latch.handed_out_us <= due_us:
                latch.handed_out_us = now_us
                found.append(latch.crossing)
        return found

    def delivered(self, keys: Iterable[str]) -> None:
        """Never hand these out again; unknown keys are ignored."""
        for key in keys:
            if key in self._latches:
                self._latches[key].is_delivered = True

    def rename(self, owner: str, new_owner: str) -> None:
        """Put another owner's name on the alerts of one."""
        for key, latch in list(self._latches.items()):
            watch = latch.crossing.watch
            renamed = renamed_watch(watch, owner, new_owner)
            if renamed != watch:
                latch.crossing = replace(latch.crossing, watch=renamed)
                self._latches.setdefault(renamed.key, self._latches.pop(key))


def renamed_watch(watch: Watch, owner: str, new_owner: str) -> Watch:
    """Return a watch without the old name of an owner, wherever it stands in it."""
    key = renamed_key(watch.key, owner, new_owner)
    return replace(watch, owner=new_owner if watch.owner == owner else watch.owner, key=key)


def renamed_key(key: str, owner: str, new_owner: str) -> str:
    """Return a watch's key without the old name.

    A key is a JSON list that begins with who pays and the user's id, or any text that begins with
    who pays.
    """
    old, new = owner.removeprefix(_USER), new_owner.removeprefix(_USER)
    try:
        who, user_id, *rest = json.loads(key)
    except (ValueError, TypeError):
        return new_owner + key[len(owner) :] if key.startswith(owner) else key
    if who != owner and user_id != old:
        return key
    names = [new_owner if who == owner else who, new if user_id == old else user_id]
    return json.dumps([*names, *rest], separators=(",", ":"))
