"""What is done to a PostgreSQL ledger now and then, as functions in it; see `postgres_steps`."""

from __future__ import annotations

from costtrace.stores.calls import CALL_COLUMNS
from costtrace.stores.postgres_functions import (
    ADD_TO_MINUTES,
    ADD_TO_TOTALS,
    ALL_LOCK,
    OWNER_LOCK,
    SLOT,
    function,
)
from costtrace.stores.postgres_steps import BEGIN
from costtrace.stores.rows import DAY_US, MINUTE_US

_COLUMNS = ", ".join(CALL_COLUMNS)
_CALL_VALUES = ", ".join(f"c.{name}" for name in CALL_COLUMNS)

RENEW = function(
    "renew(p_text text) RETURNS text",
    """  p jsonb = CAST(p_text AS jsonb);
  now bigint = coalesce(CAST(p->>'now_us' AS bigint), now_us());
  renewed bigint;""",
    f"""{BEGIN}
  UPDATE hold SET lease_until_us = now + CAST(p->>'lease_us' AS bigint)
    WHERE process = p->>'process' AND lease_until_us > now;
  GET DIAGNOSTICS renewed = ROW_COUNT;
  RETURN jsonb_build_array(renewed, now_us());""",
)

LAPSE = function(
    "lapse(p_text text) RETURNS text",
    """  p jsonb = CAST(p_text AS jsonb);
  now bigint = coalesce(CAST(p->>'now_us' AS bigint), now_us());
  due hold[];
  ids bigint[];""",
    f"""{BEGIN}
  -- a hold that somebody is settling right now is left to him
  SELECT array_agg(h) INTO due FROM (
    SELECT h FROM hold AS h WHERE lease_until_us <= now ORDER BY lease_until_us, call_id
      LIMIT CAST(p->>'at_most' AS bigint) FOR UPDATE SKIP LOCKED) AS found_holds;
  IF due IS NULL THEN
    RETURN jsonb_build_array(0, now_us());
  END IF;
  SELECT array_agg(DISTINCT id) INTO ids FROM (
    SELECT unnest(owner_ids) AS id FROM payers
      WHERE payers.id IN (SELECT payers_id FROM unnest(due))) AS of_them;
  PERFORM pg_advisory_xact_lock_shared({OWNER_LOCK}, CAST(mod(id, 2147483647) AS integer))
    FROM (SELECT id FROM unnest(ids) AS id ORDER BY id) AS sorted;
  IF (SELECT count(*) FROM owner WHERE id = ANY(ids)) < cardinality(ids) THEN
    RAISE EXCEPTION 'an owner was dropped' USING ERRCODE = 'CT001';
  END IF;
  PERFORM 1 FROM balance AS b WHERE owner_id = ANY(ids) AND EXISTS (
      SELECT 1 FROM unnest(due) AS d
        WHERE d.timestamp_us >= b.start_us AND d.timestamp_us < b.end_us)
    ORDER BY owner_id, start_us, end_us FOR UPDATE;
  INSERT INTO entry (is_lapsed, attempt, {_COLUMNS})
    SELECT 1, c.attempt, {_CALL_VALUES} FROM unnest(due) WITH ORDINALITY AS c ORDER BY c.ordinality;
  DELETE FROM hold WHERE call_id IN (SELECT call_id FROM unnest(due));
  UPDATE balance AS b SET spent_pico = b.spent_pico + s.pico,
      spent_tokens = b.spent_tokens + s.tokens, spent_calls = b.spent_calls + s.calls,
      reserved_pico = b.reserved_pico - s.pico, reserved_tokens = b.reserved_tokens - s.tokens,
      reserved_calls = b.reserved_calls - s.calls
    FROM (
      SELECT b2.owner_id, b2.start_us, b2.end_us, sum(coalesce(d.cost_pico, 0)) AS pico,
          sum(d.input_tokens + d.output_tokens) AS tokens,
          count(*) FILTER (WHERE d.adjusts IS NULL) AS calls
        FROM unnest(due) AS d JOIN payers ON payers.id = d.payers_id
        JOIN balance AS b2 ON b2.owner_id = ANY(payers.owner_ids)
          AND d.timestamp_us >= b2.start_us AND d.timestamp_us < b2.end_us
        GROUP BY 1, 2, 3) AS s
    WHERE b.owner_id = s.owner_id AND b.start_us = s.start_us AND b.end_us = s.end_us;
  INSERT INTO minute (owner_id, minute, is_gone, slot, spent_pico, spent_tokens, spent_calls)
    SELECT owner_id, d.timestamp_us / {MINUTE_US}, 0, {SLOT}, sum(coalesce(d.cost_pico, 0)),
        sum(d.input_tokens + d.output_tokens), count(*) FILTER (WHERE d.adjusts IS NULL)
      FROM unnest(due) AS d JOIN payer ON payer.payers_id = d.payers_id
      GROUP BY 1, 2 ORDER BY 1, 2
    {ADD_TO_MINUTES};
  INSERT INTO total (day, label_id, is_gone, slot, entries, calls, prompt_tokens,
      completion_tokens, cost_pico, unpriced_calls)
    SELECT d.timestamp_us / {DAY_US}, label_id, 0, {SLOT}, count(*),
        count(*) FILTER (WHERE adjusts IS NULL), sum(input_tokens), sum(output_tokens),
        sum(coalesce(cost_pico, 0)),
        count(*) FILTER (WHERE adjusts IS NULL AND cost_pico IS NULL)
      FROM unnest(due) AS d GROUP BY 1, 2 ORDER BY 1, 2
    {ADD_TO_TOTALS};
  RETURN jsonb_build_array(cardinality(due), now_us());""",
)

DROP = function(
    "drop_owner(p_text text) RETURNS text",
    "  p jsonb = CAST(p_text AS jsonb);\n  gone bigint;",
    f"""{BEGIN}
  SELECT id INTO gone FROM owner WHERE digest = CAST(p->>'owner' AS uuid);
  IF gone IS NULL THEN
    RETURN jsonb_build_array(0, now_us());
  END IF;
  PERFORM pg_advisory_xact_lock({OWNER_LOCK}, CAST(mod(gone, 2147483647) AS integer));
  PERFORM 1 FROM payers WHERE owner_ids @> ARRAY[gone] ORDER BY id FOR UPDATE;
  UPDATE payers SET owner_ids = array_remove(owner_ids, gone), digest = NULL
    WHERE owner_ids @> ARRAY[gone];
  DELETE FROM minute WHERE owner_id = gone;
  DELETE FROM balance WHERE owner_id = gone;
  DELETE FROM owner WHERE id = gone;
  RETURN jsonb_build_array(1, now_us());""",
)

PRUNE = function(
    "prune(p_text text) RETURNS text",
    """  p jsonb = CAST(p_text AS jsonb);
  before bigint = CAST(p->>'before_us' AS bigint);
  going entry[];""",
    f"""
  PERFORM pg_advisory_xact_lock({ALL_LOCK}, CAST(p->>'schema_lock' AS integer));
  INSERT INTO meta VALUES ('pruned_before_us', CAST(before AS text))
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
    WHERE CAST(meta.value AS bigint) < CAST(excluded.value AS bigint);
  SELECT array_agg(e) INTO going FROM (
    SELECT e FROM entry AS e WHERE timestamp_us < before AND is_lapsed = 0
      LIMIT CAST(p->>'at_most' AS bigint)) AS found_entries;
  IF going IS NULL THEN
    RETURN jsonb_build_array(0, now_us());
  END IF;
  DELETE FROM entry WHERE id IN (SELECT id FROM unnest(going));
  INSERT INTO minute (owner_id, minute, is_gone, slot, spent_pico, spent_tokens, spent_calls)
    SELECT owner_id, g.timestamp_us / {MINUTE_US}, is_gone, 0,
        sum((2 * is_gone - 1) * coalesce(g.cost_pico, 0)),
        sum((2 * is_gone - 1) * (g.input_tokens + g.output_tokens)),
        sum((2 * is_gone - 1) * CAST(g.adjusts IS NULL AS integer))
      FROM unnest(going) AS g JOIN payer ON payer.payers_id = g.payers_id,
        generate_series(0, 1) AS is_gone GROUP BY 1, 2, 3
    {ADD_TO_MINUTES};
  INSERT INTO total (day, label_id, is_gone, slot, entries, calls, prompt_tokens,
      completion_tokens, cost_pico, unpriced_calls)
    SELECT g.timestamp_us / {DAY_US}, label_id, is_gone, 0, count(*) * (2 * is_gone - 1),
        sum((2 * is_gone - 1) * CAST(adjusts IS NULL AS integer)),
        sum((2 * is_gone - 1) * input_tokens), sum((2 * is_gone - 1) * output_tokens),
        sum((2 * is_gone - 1) * coalesce(cost_pico, 0)),
        sum((2 * is_gone - 1) * CAST(adjusts IS NULL AND cost_pico IS NULL AS integer))
      FROM unnest(going) AS g, generate_series(0, 1) AS is_gone GROUP BY 1, 2, 3
    {ADD_TO_TOTALS};
  PERFORM fold_slots((SELECT array_agg(DISTINCT timestamp_us / {MINUTE_US}) FROM unnest(going)),
    (SELECT array_agg(DISTINCT timestamp_us / {DAY_US}) FROM unnest(going)));
  RETURN jsonb_build_array(cardinality(going), now_us());""",
)

FOLD = """CREATE OR REPLACE FUNCTION fold_slots(p_minutes bigint[], p_days bigint[]) RETURNS void
LANGUAGE sql AS $$
  -- what has become nothing over all slots goes
  DELETE FROM minute WHERE minute = ANY(p_minutes) AND is_gone = 0
    AND (owner_id, minute) IN (
      SELECT owner_id, minute FROM minute WHERE minute = ANY(p_minutes) AND is_gone = 0
        GROUP BY 1, 2
        HAVING sum(spent_pico) = 0 AND sum(spent_tokens) = 0 AND sum(spent_calls) = 0);
  DELETE FROM total WHERE day = ANY(p_days) AND is_gone = 0
    AND (day, label_id) IN (
      SELECT day, label_id FROM total WHERE day = ANY(p_days) AND is_gone = 0
        GROUP BY 1, 2 HAVING sum(entries) = 0);
$$"""

RARE_STEPS = (
    RENEW,
    LAPSE,
    DROP,
    FOLD,
    PRUNE,
)
