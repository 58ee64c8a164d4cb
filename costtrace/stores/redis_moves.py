"""A ledger in Redis on its way to another home, or from one; see `moving`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from costtrace.stores.base import EVERYTHING, Hold, Query
from costtrace.stores.grouping import FOREVER, check_query, matches
from costtrace.stores.moving import TAKEN, Charged, GoneCharge, GonePart, GoneTotal, Latched, Origin
from costtrace.stores.payloads import digest_of
from costtrace.stores.redis_link import RedisLink
from costtrace.stores.redis_payload import (
    LABEL,
    LAPSED,
    PAYERS,
    entry_of,
    label_payload,
    owner_payload,
    row_of,
    watch_json,
)
from costtrace.stores.redis_questions import RedisQuestions, pairs
from costtrace.stores.redis_upkeep import crossing_of

_MOVE_S = 30.0
_REST = 11
_DAYS = 400
_MINUTES_OF_A_DAY = 1440


class RedisMoves:
    """What makes a `RedisStore` movable."""

    _link: RedisLink
    _now_us: Callable[[], int] | None

    def _timed(self, payload: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def origin(self) -> Origin:
        """Return which ledger this is, how far it was pruned, and what was taken in."""
        meta = RedisQuestions(self._link).all_of("meta")
        pruned = meta.get("pruned")
        taken = {n.removeprefix(TAKEN): v for n, v in meta.items() if n.startswith(TAKEN)}
        return Origin(self._link.generation, None if pruned is None else int(pruned), taken=taken)

    def charged(self, query: Query = EVERYTHING) -> Iterator[Charged]:
        """Yield the entries and who was charged, in the order they came in."""
        check_query(query)
        questions, names = RedisQuestions(self._link), _Names(self._link)
        for row in questions.found_rows(query):
            label = questions.label(row[LABEL])
            if matches(label, query):
                yield Charged(entry_of(row, label), names.of(row[PAYERS]), row[LAPSED] == "1")

    def standing(self) -> list[Hold]:
        """Return the holds that stand, each with what is left of its lease and no limits.

        A process has no name here, only what it is found by.
        """
        holds, leases, now = self._link.ask("standing", self._timed({}), _MOVE_S)
        until = {member: float(score) for member, score in pairs(leases) if member != "v"}
        questions, names = RedisQuestions(self._link), _Names(self._link)
        found = []
        for member, packed in sorted(pairs(holds)):
            if member == "v":
                continue
            row = row_of(packed)
            process, _, row[_REST] = row[_REST].partition("|")
            entry = entry_of(row, questions.label(row[LABEL]))
            left_s = max(until[member] - int(now), 0) / 1e6
            found.append(Hold(entry, names.of(row[PAYERS]), lease_s=left_s, process=process))
        return found

    def latched(self) -> list[Latched]:
        """Return the alerts that have fired."""
        alerts, undelivered = self._link.ask("latched", {}, _MOVE_S)
        return [
            Latched(crossing_of(packed), digest not in undelivered)
            for digest, packed in sorted(pairs(alerts))
            if digest != "v"
        ]

    def latch(self, alerts: Sequence[Latched]) -> None:
        """Note alerts that have fired elsewhere; one that is known here stays, once delivered."""
        told = [
            [
                digest_of((watch := alert.crossing.watch).key),
                f"{alert.crossing.spent_pico}|{watch_json(watch)}",
                alert.is_delivered,
            ]
            for alert in alerts
        ]
        self._link.ask("latch", self._timed({"alerts": told}), _MOVE_S)

    def gone(self) -> tuple[list[GoneTotal], list[GoneCharge]]:
        """Return the sums of pruned entries."""
        questions = RedisQuestions(self._link)
        return list(_gone_totals(questions, self._link)), list(_gone_charges(questions))

    def take_gone(
        self, source: str, before: str | None, now: str, part: GonePart, pruned_us: int | None
    ) -> bool:
        """Add a part of another ledger's sums if the note about it is `before`."""
        payload: dict[str, Any] = {
            "note": TAKEN + source,
            "before": before or "",
            "now_is": now,
            "totals": [
                [str(total.day), *label_payload(tuple(total.label)), list(map(str, total.counts))]
                for total in part.totals
            ],
            "charges": [
                [
                    owner_payload(gone.owner),
                    str(gone.minute),
                    str(gone.minute // _MINUTES_OF_A_DAY),
                    list(map(str, gone.charge)),
                ]
                for gone in part.charges
            ],
        }
        if pruned_us is not None:
            payload["pruned"] = str(pruned_us)
        return bool(self._link.ask("take_gone", self._timed(payload), _MOVE_S)[0] == "yes")


class _Names:
    """Who is in which set of payers, read at once and again where somebody new turns up."""

    def __init__(self, link: RedisLink) -> None:
        self._questions = RedisQuestions(link)
        self._names: dict[str, tuple[str, ...]] = {}

    def of(self, payers: str) -> tuple[str, ...]:
        """Return the names of a set of payers."""
        if payers not in self._names:
            self._read()
        return self._names[payers]

    def _read(self) -> None:
        sets = self._questions.all_of("payers")
        owners = {
            number: json.loads(text.partition("|")[2])
            for number, text in self._questions.all_of("owner").items()
        }
        self._names = {
            number: tuple(sorted(owners[id_] for id_ in _ids(text) if id_ in owners))
            for number, text in sets.items()
        }


def _ids(text: str) -> list[str]:
    return text.partition("|")[2].split(",")


def _gone_totals(questions: RedisQuestions, link: RedisLink) -> Iterator[GoneTotal]:
    first = FOREVER[0]
    while True:
        asked = {"first": str(first), "stop": str(FOREVER[1])}
        (found,) = link.ask("totals", asked, _MOVE_S)
        for day, flat in zip(found[3::2], found[4::2], strict=True):
            for number, packed in pairs(flat):
                if number.startswith("g") and packed:
                    label = questions.label(number[1:])
                    yield GoneTotal(int(day), label, _numbers(packed))
        if len(found) < 2 * _DAYS:
            return
        first = int(found[-2]) + 1


def _gone_charges(questions: RedisQuestions) -> Iterator[GoneCharge]:
    for number, text in questions.all_of("owner").items():
        owner = json.loads(text.partition("|")[2])
        minutes = questions.all_of(f"m:{number}")
        for minute in sorted(int(field[1:]) for field in minutes if field.startswith("g")):
            pico, tokens, calls = _numbers(minutes[f"g{minute}"])
            yield GoneCharge(owner, minute, (pico, tokens, calls))


def _numbers(packed: str) -> tuple[int, ...]:
    return tuple(map(int, packed.split("|")))
