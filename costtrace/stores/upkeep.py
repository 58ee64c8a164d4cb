"""What is done to a SQL ledger now and then: owners dropped, users renamed, old entries let go."""

from __future__ import annotations

import json
from collections import defaultdict

from costtrace.stores.base import BudgetRecord, user_owner
from costtrace.stores.calls import CALL_COLUMNS, LABEL, PAYERS, TIMESTAMP, charge_from, counts_from
from costtrace.stores.grouping import negative
from costtrace.stores.latches import renamed_key
from costtrace.stores.rows import (
    DAY_US,
    MINUTE_US,
    check_text,
    label_digest,
    label_from_row,
    payers_digest,
)
from costtrace.stores.statements import (
    ADD_TO_MINUTE,
    ADD_TO_TOTAL,
    FIND_LABEL,
    FIND_OWNER,
    FIND_PAYERS,
    READ_META,
)
from costtrace.stores.steps import Steps

TRACES = "has_traces"
PRUNED_AT_ONCE = 1000
"""Entries that go in one transaction, so that others need not wait long."""

_COLUMNS = ", ".join(CALL_COLUMNS)
PAYERS_WITH = "SELECT payers_id FROM payer WHERE owner_id = ?"
HIDE_PAYERS = "UPDATE payers SET digest = NULL WHERE id = ?"
FORGET_OWNER = (
    "DELETE FROM payer WHERE owner_id = ?",
    "DELETE FROM minute WHERE owner_id = ?",
    "DELETE FROM balance WHERE owner_id = ?",
    "DELETE FROM owner WHERE id = ?",
)

COUNT_ENTRIES = """
    SELECT coalesce(sum(entries), 0) FROM total
    WHERE label_id IN (SELECT id FROM label WHERE user_id = ?)"""
LABELS_OF_USER = """
    SELECT id, function_name, user_id, model, provider, operation, request_model, service_tier,
        region, status, grade, price_id, streamed, call_path, tags
    FROM label WHERE user_id = ?"""
RENAME_LABEL = "UPDATE label SET user_id = ?, digest = ? WHERE id = ?"
IS_PAYER = "SELECT 1 FROM payer WHERE payers_id = ? AND owner_id = ?"
REPLACE_PAYER = "UPDATE payer SET owner_id = ? WHERE payers_id = ? AND owner_id = ?"
NAMES_OF = """
    SELECT name FROM payer JOIN owner ON owner.id = owner_id WHERE payers_id = ?"""
SET_PAYERS = "UPDATE payers SET digest = ? WHERE id = ?"
GONE_MINUTES = """
    SELECT minute, spent_pico, spent_tokens, spent_calls FROM minute
    WHERE owner_id = ? AND is_gone = 1"""
FORGET_MINUTES = "DELETE FROM minute WHERE owner_id = ? AND is_gone = 0"
FORGET_BALANCES = "DELETE FROM balance WHERE owner_id = ?"
SUM_INTO_MINUTES = f"""
    INSERT INTO minute
    SELECT owner_id, timestamp_us / {MINUTE_US}, 0, sum(coalesce(cost_pico, 0)),
        sum(input_tokens + output_tokens), sum(CASE WHEN adjusts IS NULL THEN 1 ELSE 0 END)
    FROM entry JOIN payer ON payer.payers_id = entry.payers_id
    WHERE owner_id = ? GROUP BY owner_id, timestamp_us / {MINUTE_US}"""
ALL_ALERTS = "SELECT key, owner FROM alert"
RENAME_ALERT = "UPDATE alert SET owner = ?, key = ? WHERE key = ?"
DELETE_ALERT = "DELETE FROM alert WHERE key = ?"
FIND_ALERT = "SELECT 1 FROM alert WHERE key = ?"

OLD_ENTRIES = f"""
    SELECT {_COLUMNS}, id FROM entry WHERE timestamp_us < ? AND is_lapsed = 0 LIMIT ?"""
OWNERS_OF = "SELECT owner_id FROM payer WHERE payers_id = ?"
DELETE_ENTRY = "DELETE FROM entry WHERE id = ?"
CLEAR_TOTAL = "DELETE FROM total WHERE day = ? AND label_id = ? AND is_gone = 0 AND entries = 0"
CLEAR_MINUTE = """
    DELETE FROM minute WHERE owner_id = ? AND minute = ? AND is_gone = 0
    AND spent_pico = 0 AND spent_tokens = 0 AND spent_calls = 0"""
SET_META = """
    INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"""
DELETE_META = "DELETE FROM meta WHERE name = ?"
TOTAL_CHANGES = "SELECT total_changes()"

BUDGETS = "SELECT user_id, window, tz, limit_pico, alert_at FROM budget"
ADD_BUDGET = "INSERT INTO budget VALUES (?, ?, ?, ?, ?)"
DELETE_BUDGET = """
    DELETE FROM budget WHERE coalesce(user_id = ?, user_id IS NULL AND ?)
    AND coalesce(window = ?, window IS NULL AND ?)"""


class Upkeep(Steps):
    """All steps, the rare ones as well."""

    def define(self, budget: BudgetRecord) -> None:
        """Remember a budget's terms."""
        user_id, window = budget.user_id, budget.window
        limit = None if budget.limit_pico is None else str(budget.limit_pico)
        known = [row for row in self.budgets() if (row.user_id, row.window) == (user_id, window)]
        if known == [budget]:
            return
        self._run(DELETE_BUDGET, (user_id, user_id is None, window, window is None))
        self._run(ADD_BUDGET, (user_id, window, budget.tz, limit, json.dumps(budget.alert_at)))

    def budgets(self) -> list[BudgetRecord]:
        """Return the terms of all budgets."""
        return [
            BudgetRecord(
                user_id,
                window,
                tz,
                None if limit_pico is None else int(limit_pico),
                tuple(json.loads(alert_at)),
            )
            for user_id, window, tz, limit_pico, alert_at in self._run(BUDGETS, ()).fetchall()
        ]

    def drop(self, owner: str) -> None:
        """Forget what was charged to an owner; the entries stay."""
        found = self._run(FIND_OWNER, (check_text(owner, "owner"),)).fetchone()
        if found is None:
            return
        for (payers_id,) in self._run(PAYERS_WITH, found).fetchall():
            self._run(HIDE_PAYERS, (payers_id,))
        for statement in FORGET_OWNER:
            self._run(statement, (found[0],))

    def rename_user(self, user_id: str, new_user_id: str) -> int:
        """Put another name on all that a user has; return how many entries that were."""
        check_text(user_id, "user_id"), check_text(new_user_id, "new_user_id")
        renamed = self._run(COUNT_ENTRIES, (user_id,)).fetchone()[0]
        changes = self._run(TOTAL_CHANGES, ()).fetchone()
        for label_id, *row in self._run(LABELS_OF_USER, (user_id,)).fetchall():
            label = label_from_row(tuple(row))._replace(user_id=new_user_id)
            digest = label_digest(tuple(label))
            is_known = self._run(FIND_LABEL, (digest,)).fetchone() is not None
            self._run(RENAME_LABEL, (new_user_id, None if is_known else digest, label_id))
        self._rename_owner(user_owner(user_id), user_owner(new_user_id))
        for budget in self.budgets():
            if budget.user_id == user_id:
                self._rename_budget(budget, new_user_id)
        if self._run(TOTAL_CHANGES, ()).fetchone() != changes:
            self._run(SET_META, (TRACES, "1"))
        return int(renamed)

    def has_traces(self) -> bool:
        """Return whether the file may still hold a name that was replaced."""
        return self._run(READ_META, (TRACES,)).fetchone() is not None

    def forget_traces(self) -> None:
        """Note that the file was written anew."""
        self._run(DELETE_META, (TRACES,))

    def prune(self, before_us: int) -> int:
        """Let go of some entries authorized before; 0 when none are left."""
        known = self._run(READ_META, ("pruned_before_us",)).fetchone()
        if known is None or int(known[0]) < before_us:
            self._run(SET_META, ("pruned_before_us", str(before_us)))
        going = self._run(OLD_ENTRIES, (before_us, PRUNED_AT_ONCE)).fetchall()
        totals: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * 6)
        minutes: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * 3)
        for row in going:
            _add(totals[(row[TIMESTAMP] // DAY_US, row[LABEL])], counts_from(row))
            for (owner_id,) in self._run(OWNERS_OF, (row[PAYERS],)).fetchall():
                _add(minutes[(owner_id, row[TIMESTAMP] // MINUTE_US)], charge_from(row))
            self._run(DELETE_ENTRY, (row[-1],))
        for key, counts in totals.items():
            self._run(ADD_TO_TOTAL, (*key, 0, *negative(counts)))
            self._run(ADD_TO_TOTAL, (*key, 1, *counts))
            self._run(CLEAR_TOTAL, key)
        for key, charge in minutes.items():
            self._run(ADD_TO_MINUTE, (*key, 0, *negative(charge)))
            self._run(ADD_TO_MINUTE, (*key, 1, *charge))
            self._run(CLEAR_MINUTE, key)
        return len(going)

    def _rename_owner(self, owner: str, new_owner: str) -> None:
        self._rename_alerts(owner, new_owner)
        found = self._run(FIND_OWNER, (owner,)).fetchone()
        if found is None:
            return
        old_id, new_id = found[0], self._owner_id(new_owner)
        changed = [payers_id for (payers_id,) in self._run(PAYERS_WITH, (old_id,)).fetchall()]
        for payers_id in changed:
            if self._run(IS_PAYER, (payers_id, new_id)).fetchone() is None:
                self._run(REPLACE_PAYER, (new_id, payers_id, old_id))
        for minute, *charge in self._run(GONE_MINUTES, (old_id,)).fetchall():
            self._run(ADD_TO_MINUTE, (new_id, minute, 1, *charge))
        for statement in FORGET_OWNER:
            self._run(statement, (old_id,))
        self._run(FORGET_MINUTES, (new_id,))
        self._run(FORGET_BALANCES, (new_id,))
        self._run(SUM_INTO_MINUTES, (new_id,))
        for payers_id in changed:
            self._redigest(payers_id)

    def _rename_alerts(self, owner: str, new_owner: str) -> None:
        for key, payer in self._run(ALL_ALERTS, ()).fetchall():
            new_key = renamed_key(key, owner, new_owner)
            if new_key != key and self._run(FIND_ALERT, (new_key,)).fetchone():
                self._run(DELETE_ALERT, (key,))
            elif new_key != key or payer == owner:
                new_payer = new_owner if payer == owner else payer
                self._run(RENAME_ALERT, (new_payer, new_key, key))

    def _redigest(self, payers_id: int) -> None:
        names = tuple(name for (name,) in self._run(NAMES_OF, (payers_id,)).fetchall())
        digest = payers_digest(names)
        self._run(HIDE_PAYERS, (payers_id,))
        if self._run(FIND_PAYERS, (digest,)).fetchone() is None:
            self._run(SET_PAYERS, (digest, payers_id))

    def _rename_budget(self, budget: BudgetRecord, new_user_id: str) -> None:
        window = budget.window
        self._run(DELETE_BUDGET, (budget.user_id, False, window, window is None))
        known = {(row.user_id, row.window) for row in self.budgets()}
        if (new_user_id, window) not in known:
            self.define(
                BudgetRecord(new_user_id, window, budget.tz, budget.limit_pico, budget.alert_at)
            )


def _add(sums: list[int], more: tuple[int, ...]) -> None:
    for position, count in enumerate(more):
        sums[position] += count
