"""The SQL of a step in a SQLite ledger; see `steps` for what it is for, `schema` for the tables."""

from __future__ import annotations

from costtrace.stores.calls import CALL_COLUMNS
from costtrace.stores.rows import Label

_COLUMNS = ", ".join(CALL_COLUMNS)
_MARKS = ", ".join("?" * len(CALL_COLUMNS))
_LABEL_COLUMNS = ", ".join(Label._fields)

LOOK_UP = """
    SELECT EXISTS (SELECT 1 FROM hold WHERE call_id = ?),
        EXISTS (SELECT 1 FROM entry WHERE call_id = ?),
        EXISTS (SELECT 1 FROM hold WHERE lease_until_us <= ?)"""
FIND_HOLD = """
    SELECT timestamp_us, payers_id, coalesce(cost_pico, 0), input_tokens + output_tokens,
        adjusts IS NULL FROM hold WHERE call_id = ?"""
ADD_HOLD = f"INSERT INTO hold ({_COLUMNS}, lease_until_us, process) VALUES ({_MARKS}, ?, ?)"
DELETE_HOLD = "DELETE FROM hold WHERE call_id = ?"
DUE_HOLDS = f"""
    SELECT {_COLUMNS} FROM hold
    WHERE lease_until_us <= ? ORDER BY lease_until_us, call_id LIMIT ?"""
RENEW = "UPDATE hold SET lease_until_us = ? WHERE process = ? AND lease_until_us > ?"

FIND_ENTRY = f"SELECT {_COLUMNS}, id, is_lapsed FROM entry WHERE call_id = ?"
ADD_ENTRY = f"""
    INSERT INTO entry ({_COLUMNS}, is_lapsed) VALUES ({_MARKS}, ?) ON CONFLICT DO NOTHING"""
REPLACE_ENTRY = f"""
    UPDATE entry SET ({_COLUMNS}, is_lapsed) = ({_MARKS}, 0) WHERE id = ?"""
DELETE_ENTRY = "DELETE FROM entry WHERE id = ?"

FIND_LABEL = "SELECT id FROM label WHERE digest = ?"
ADD_LABEL = f"""
    INSERT INTO label (digest, {_LABEL_COLUMNS})
    VALUES (?, {", ".join("?" * len(Label._fields))}) RETURNING id"""
READ_LABEL = f"SELECT {_LABEL_COLUMNS} FROM label WHERE id = ?"
FIND_PAYERS = "SELECT id FROM payers WHERE digest = ?"
ADD_PAYERS = "INSERT INTO payers (digest) VALUES (?) RETURNING id"
ADD_PAYER = "INSERT INTO payer (payers_id, owner_id) VALUES (?, ?)"
FIND_OWNER = "SELECT id FROM owner WHERE name = ?"
ADD_OWNER = "INSERT INTO owner (name) VALUES (?) RETURNING id"

ADD_TO_TOTAL = """
    INSERT INTO total VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (day, label_id, is_gone) DO UPDATE SET
        entries = total.entries + excluded.entries,
        calls = total.calls + excluded.calls,
        prompt_tokens = total.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = total.completion_tokens + excluded.completion_tokens,
        cost_pico = total.cost_pico + excluded.cost_pico,
        unpriced_calls = total.unpriced_calls + excluded.unpriced_calls"""
ADD_TO_MINUTE = """
    INSERT INTO minute VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (owner_id, minute, is_gone) DO UPDATE SET
        spent_pico = minute.spent_pico + excluded.spent_pico,
        spent_tokens = minute.spent_tokens + excluded.spent_tokens,
        spent_calls = minute.spent_calls + excluded.spent_calls"""
_OF_PAYERS = "owner_id IN (SELECT owner_id FROM payer WHERE payers_id = ?)"
ADD_TO_MINUTES = """
    INSERT INTO minute SELECT owner_id, ?, 0, ?, ?, ? FROM payer WHERE payers_id = ?
    ON CONFLICT (owner_id, minute, is_gone) DO UPDATE SET
        spent_pico = minute.spent_pico + excluded.spent_pico,
        spent_tokens = minute.spent_tokens + excluded.spent_tokens,
        spent_calls = minute.spent_calls + excluded.spent_calls"""
ADD_TO_BALANCES = f"""
    UPDATE balance SET
        spent_pico = spent_pico + ?, spent_tokens = spent_tokens + ?,
        spent_calls = spent_calls + ?, reserved_pico = reserved_pico + ?,
        reserved_tokens = reserved_tokens + ?, reserved_calls = reserved_calls + ?
    WHERE {_OF_PAYERS} AND start_us <= ? AND end_us > ?"""  # RETURNING would take 20 times as long

_BALANCE = """
    spent_pico, spent_tokens, spent_calls, reserved_pico, reserved_tokens, reserved_calls"""
FIND_BALANCE = f"""
    SELECT {_BALANCE} FROM balance WHERE owner_id = ? AND start_us = ? AND end_us = ?"""
ADD_BALANCE = f"""
    INSERT INTO balance (owner_id, start_us, end_us, {_BALANCE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    """
COUNT_BALANCES = "SELECT count(*) FROM balance WHERE owner_id = ?"
OLDEST_BALANCE = """
    SELECT start_us, end_us FROM balance WHERE owner_id = ? ORDER BY end_us, start_us LIMIT 1"""
DELETE_BALANCE = "DELETE FROM balance WHERE owner_id = ? AND start_us = ? AND end_us = ?"
SUM_MINUTES = """
    SELECT coalesce(sum(spent_pico), 0), coalesce(sum(spent_tokens), 0),
        coalesce(sum(spent_calls), 0)
    FROM minute WHERE owner_id = ? AND minute >= ? AND minute < ?"""
_SUM_CALLS = """
    SELECT coalesce(sum(cost_pico), 0), coalesce(sum(input_tokens + output_tokens), 0),
        coalesce(sum(CASE WHEN adjusts IS NULL THEN 1 ELSE 0 END), 0)
    FROM {table} WHERE timestamp_us >= ? AND timestamp_us < ? AND EXISTS (
        SELECT 1 FROM payer WHERE payer.payers_id = {table}.payers_id AND owner_id = ?)"""
SUM_ENTRIES = _SUM_CALLS.format(table="entry")
SUM_HOLDS = _SUM_CALLS.format(table="hold")

FIND_ALERT = "SELECT 1 FROM alert WHERE key = ?"
ADD_ALERT = "INSERT INTO alert VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)"
UNDELIVERED = """
    SELECT key, owner, start_us, end_us, is_rolling, threshold_pico, spent_pico
    FROM alert WHERE is_delivered = 0 AND handed_out_us <= ? ORDER BY handed_out_us, key"""
HAND_OUT = "UPDATE alert SET handed_out_us = ? WHERE key = ?"
DELIVERED = "UPDATE alert SET is_delivered = 1 WHERE key = ?"

READ_META = "SELECT value FROM meta WHERE name = ?"
