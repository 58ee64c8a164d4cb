"""What is done to a ledger in Redis now and then: budgets kept, users renamed."""

from __future__ import annotations

import json
from dataclasses import replace

from costtrace.stores.base import BudgetRecord, Crossing, user_owner
from costtrace.stores.latches import renamed_watch
from costtrace.stores.payloads import digest_of, owner_digest
from costtrace.stores.redis_link import RedisLink
from costtrace.stores.redis_payload import (
    label_json,
    label_payload,
    owner_payload,
    watch_json,
    watch_of_json,
)
from costtrace.stores.redis_questions import RedisQuestions
from costtrace.stores.rows import payers_digest

_AT_ONCE = 200
_RENAME_S = 30.0


def crossing_of(packed: str) -> Crossing:
    """Return the crossing that was written down."""
    spent, _, text = packed.partition("|")
    return Crossing(watch_of_json(text), int(spent))


def budget_field(user_id: str | None, window: str | None) -> str:
    """Return what a budget is found by."""
    return digest_of(json.dumps([user_id, window]))


def budget_json(budget: BudgetRecord) -> str:
    """Return a budget as text."""
    limit = None if budget.limit_pico is None else str(budget.limit_pico)
    return json.dumps([budget.user_id, budget.window, budget.tz, limit, budget.alert_at])


def budget_of_json(text: str) -> BudgetRecord:
    """Return the budget that was written."""
    user_id, window, tz, limit, alert_at = json.loads(text)
    limit_pico = None if limit is None else int(limit)
    return BudgetRecord(user_id, window, tz, limit_pico, tuple(alert_at))


def rename_user(link: RedisLink, user_id: str, new_user_id: str) -> int:
    """Put another name on all that a user has, in several steps; return how many entries."""
    if user_id == new_user_id:
        return 0
    renamed = _rename_labels(link, user_id, new_user_id)
    _rename_owner(link, user_owner(user_id), user_owner(new_user_id))
    _rename_alerts(link, user_owner(user_id), user_owner(new_user_id))
    _rename_budgets(link, user_id, new_user_id)
    return renamed


def _rename_labels(link: RedisLink, user_id: str, new_user_id: str) -> int:
    numbers: set[str] = set()
    while labels := RedisQuestions(link).labels_of(user_id):
        numbers |= labels.keys()
        changes = []
        for number, (label, text) in labels.items():
            new = label._replace(user_id=new_user_id)
            old_digest, new_digest = (label_payload(tuple(one))[0] for one in (label, new))
            changes.append([number, text, label_json(new), old_digest, new_digest])
        for start in range(0, len(changes), _AT_ONCE):
            link.ask("rename_labels", {"labels": changes[start : start + _AT_ONCE]}, _RENAME_S)
    return RedisQuestions(link).entries_of(numbers)


def _rename_owner(link: RedisLink, owner: str, new_owner: str) -> None:
    _, *changed = link.ask(
        "rename_owner", {"old": owner_payload(owner), "new": owner_payload(new_owner)}, _RENAME_S
    )
    for payers, members in zip(changed[::2], changed[1::2], strict=True):
        ids = members.split(",")
        (texts,) = link.ask("owners", {"ids": ids}, _RENAME_S)
        if all(text is not None for text in texts):
            names = tuple(json.loads(text.partition("|")[2]) for text in texts)
            change = [payers, members, payers_digest(names).hex()]
            link.ask("name_payers", {"payers": [change]}, _RENAME_S)


def _rename_alerts(link: RedisLink, owner: str, new_owner: str) -> None:
    changes = []
    for digest, packed in RedisQuestions(link).all_of("alert").items():
        watch = crossing_of(packed).watch
        renamed = renamed_watch(watch, owner, new_owner)
        if renamed != watch:
            changes.append([digest, digest_of(renamed.key), watch_json(renamed)])
    link.ask("rename_alerts", {"alerts": changes}, _RENAME_S)


def _rename_budgets(link: RedisLink, user_id: str, new_user_id: str) -> None:
    changes = []
    for field, text in RedisQuestions(link).all_of("budget").items():
        budget = budget_of_json(text)
        if budget.user_id == user_id:
            new = replace(budget, user_id=new_user_id)
            changes.append([field, budget_field(new_user_id, budget.window), budget_json(new)])
    link.ask("rename_budgets", {"budgets": changes}, _RENAME_S)


def drop(link: RedisLink, owner: str) -> None:
    """Forget what was charged to an owner."""
    link.ask("drop", {"owner": owner_digest(owner)})
