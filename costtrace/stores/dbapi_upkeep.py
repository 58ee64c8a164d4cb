"""What is done to a PostgreSQL ledger now and then: alerts, budgets, users renamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from costtrace.stores.base import BudgetRecord, Crossing, Span, Watch, user_owner
from costtrace.stores.dbapi_link import Rows
from costtrace.stores.latches import renamed_key
from costtrace.stores.payloads import digest_of, owner_digest
from costtrace.stores.postgres_functions import ADD_TO_MINUTES, ALL_LOCK
from costtrace.stores.rows import MINUTE_US, Label, label_digest, label_from_row, payers_digest

Run = Callable[..., Rows]
_LABEL_COLUMNS = ", ".join(Label._fields)

HAND_OUT = """
    WITH moment AS (SELECT coalesce(CAST(? AS bigint), now_us()) AS us),
    due AS (
        SELECT digest FROM alert, moment
        WHERE NOT is_delivered AND handed_out_us <= moment.us - CAST(? AS bigint)
        ORDER BY digest FOR UPDATE OF alert SKIP LOCKED)
    UPDATE alert SET handed_out_us = coalesce(CAST(? AS bigint), now_us())
    WHERE digest IN (SELECT digest FROM due)
    RETURNING key, owner, start_us, end_us, is_rolling, threshold_pico, spent_pico"""
DELIVERED = "UPDATE alert SET is_delivered = true WHERE digest = CAST(? AS uuid)"
DEFINE = """
    INSERT INTO budget VALUES (CAST(? AS uuid), ?, ?, ?, CAST(? AS numeric), ?)
    ON CONFLICT (digest) DO UPDATE SET
        tz = excluded.tz, limit_pico = excluded.limit_pico, alert_at = excluded.alert_at
    WHERE (budget.tz, budget.limit_pico, budget.alert_at)
        IS DISTINCT FROM (excluded.tz, excluded.limit_pico, excluded.alert_at)"""
BUDGETS = "SELECT user_id, window_name, tz, limit_pico, alert_at FROM budget"
DELETE_BUDGET = "DELETE FROM budget WHERE digest = CAST(? AS uuid)"
HAS_BUDGET = "SELECT 1 FROM budget WHERE digest = CAST(? AS uuid)"

LOCK_ALL = f"SELECT pg_advisory_xact_lock({ALL_LOCK}, CAST(? AS integer))"
COUNT_ENTRIES = """
    SELECT coalesce(sum(entries), 0) FROM total
    WHERE label_id IN (SELECT id FROM label WHERE user_id = ?)"""
LABELS_OF_USER = f"SELECT id, {_LABEL_COLUMNS} FROM label WHERE user_id = ?"
FIND_LABEL = "SELECT 1 FROM label WHERE digest = CAST(? AS uuid)"
RENAME_LABEL = "UPDATE label SET user_id = ?, digest = CAST(? AS uuid) WHERE id = ?"
FIND_OWNER = "SELECT id FROM owner WHERE digest = CAST(? AS uuid)"
ADD_OWNER = "INSERT INTO owner (digest, name) VALUES (CAST(? AS uuid), ?) RETURNING id"
PAYERS_WITH = "SELECT id FROM payers WHERE owner_ids @> ARRAY[CAST(? AS bigint)]"
REPLACE_PAYER = """
    UPDATE payers SET digest = NULL, owner_ids = ARRAY(
        SELECT DISTINCT id FROM unnest(array_replace(owner_ids, CAST(? AS bigint),
            CAST(? AS bigint))) AS id ORDER BY id)
    WHERE owner_ids @> ARRAY[CAST(? AS bigint)]"""
NAMES_OF = """
    SELECT name FROM payer JOIN owner ON owner.id = owner_id WHERE payers_id = ?"""
SET_DIGEST = """
    UPDATE payers SET digest = CAST(? AS uuid) WHERE id = ?
    AND NOT EXISTS (SELECT 1 FROM payers WHERE digest = CAST(? AS uuid))"""
TAKE_GONE_MINUTES = f"""
    INSERT INTO minute SELECT CAST(? AS bigint), minute, is_gone, slot, spent_pico, spent_tokens,
        spent_calls FROM minute WHERE owner_id = ? AND is_gone = 1
    {ADD_TO_MINUTES}"""
FORGET_OWNER = (
    "DELETE FROM minute WHERE owner_id = ?",
    "DELETE FROM balance WHERE owner_id = ?",
    "DELETE FROM owner WHERE id = ?",
)
FORGET_SUMS = (
    "DELETE FROM minute WHERE owner_id = ? AND is_gone = 0",
    "DELETE FROM balance WHERE owner_id = ?",
)
SUM_INTO_MINUTES = f"""
    INSERT INTO minute
    SELECT CAST(? AS bigint), timestamp_us / {MINUTE_US}, 0, 0, sum(coalesce(cost_pico, 0)),
        sum(input_tokens + output_tokens), count(*) FILTER (WHERE adjusts IS NULL)
    FROM entry JOIN payers ON payers.id = payers_id
    WHERE owner_ids @> ARRAY[CAST(? AS bigint)] GROUP BY 2"""
ALL_ALERTS = "SELECT digest, key, owner FROM alert"
FIND_ALERT = "SELECT 1 FROM alert WHERE digest = CAST(? AS uuid)"
RENAME_ALERT = """
    UPDATE alert SET owner = ?, key = ?, digest = CAST(? AS uuid) WHERE digest = CAST(? AS uuid)"""
DELETE_ALERT = "DELETE FROM alert WHERE digest = CAST(? AS uuid)"


def crossings_of(rows: Rows) -> list[Crossing]:
    """Return the crossings that were handed out."""
    found = [
        Crossing(Watch(owner, Span(start_us, end_us, is_rolling), int(threshold), key), spent)
        for key, owner, start_us, end_us, is_rolling, threshold, spent in rows
    ]
    return sorted(found, key=lambda crossing: crossing.watch.key)


def budget_values(budget: BudgetRecord) -> tuple[Any, ...]:
    """Return the values of `DEFINE`."""
    limit = None if budget.limit_pico is None else str(budget.limit_pico)
    return (
        _budget_digest(budget.user_id, budget.window),
        budget.user_id,
        budget.window,
        budget.tz,
        limit,
        json.dumps(budget.alert_at),
    )


def budgets_of(rows: Rows) -> list[BudgetRecord]:
    """Return the budgets of these rows."""
    return [
        BudgetRecord(user_id, window, tz, limit_pico, tuple(json.loads(alert_at)))
        for user_id, window, tz, limit_pico, alert_at in rows
    ]


def rename_user(run: Run, schema_lock: int, user_id: str, new_user_id: str) -> int:
    """Put another name on all that a user has; return how many entries that were."""
    run(LOCK_ALL, (schema_lock,))
    renamed = run(COUNT_ENTRIES, (user_id,))[0][0]
    for label_id, *row in run(LABELS_OF_USER, (user_id,)):
        label = label_from_row(tuple(row))._replace(user_id=new_user_id)
        digest = label_digest(tuple(label)).hex()
        is_known = bool(run(FIND_LABEL, (digest,)))
        run(RENAME_LABEL, (new_user_id, None if is_known else digest, label_id))
    old_owner, new_owner = user_owner(user_id), user_owner(new_user_id)
    _rename_alerts(run, old_owner, new_owner)
    _rename_owner(run, old_owner, new_owner)
    for budget in budgets_of(run(BUDGETS)):
        if budget.user_id == user_id:
            _rename_budget(run, budget, new_user_id)
    return int(renamed)


def _rename_alerts(run: Run, owner: str, new_owner: str) -> None:
    for digest, key, payer in run(ALL_ALERTS):
        new_key = renamed_key(key, owner, new_owner)
        new_digest, new_payer = digest_of(new_key), new_owner if payer == owner else payer
        if new_key != key and run(FIND_ALERT, (new_digest,)):
            run(DELETE_ALERT, (str(digest),))
        elif new_key != key or payer == owner:
            run(RENAME_ALERT, (new_payer, new_key, new_digest, str(digest)))


def _rename_owner(run: Run, owner: str, new_owner: str) -> None:
    found = run(FIND_OWNER, (owner_digest(owner),)).fetchone()
    if found is None or owner == new_owner:
        return
    old_id, new_digest = found[0], owner_digest(new_owner)
    known = run(FIND_OWNER, (new_digest,)) or run(ADD_OWNER, (new_digest, new_owner))
    new_id = known[0][0]
    changed = [payers_id for (payers_id,) in run(PAYERS_WITH, (old_id,))]
    run(REPLACE_PAYER, (old_id, new_id, old_id))
    run(TAKE_GONE_MINUTES, (new_id, old_id))
    for statement in FORGET_OWNER:
        run(statement, (old_id,))
    for statement in FORGET_SUMS:
        run(statement, (new_id,))
    run(SUM_INTO_MINUTES, (new_id, new_id))
    for payers_id in changed:
        names = tuple(name for (name,) in run(NAMES_OF, (payers_id,)))
        digest = payers_digest(names).hex()
        run(SET_DIGEST, (digest, payers_id, digest))


def _rename_budget(run: Run, budget: BudgetRecord, new_user_id: str) -> None:
    run(DELETE_BUDGET, (_budget_digest(budget.user_id, budget.window),))
    if not run(HAS_BUDGET, (_budget_digest(new_user_id, budget.window),)):
        renamed = BudgetRecord(
            new_user_id, budget.window, budget.tz, budget.limit_pico, budget.alert_at
        )
        run(DEFINE, budget_values(renamed))


def _budget_digest(user_id: str | None, window: str | None) -> str:
    return digest_of(json.dumps([user_id, window]))
