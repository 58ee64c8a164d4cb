"""The steps of the protocol inside of PostgreSQL; see `postgres_functions` for what they share."""

from __future__ import annotations

from costtrace.stores.calls import CALL_COLUMNS
from costtrace.stores.postgres_functions import ALL_LOCK, CALL_LOCK, function

_COLUMNS = ", ".join(CALL_COLUMNS)
_CALL_VALUES = ", ".join(f"c.{name}" for name in CALL_COLUMNS)
_CHANGES = ", ".join(f"{name} = c.{name}" for name in CALL_COLUMNS)

# An assignment of what a function returns, nothing, is evaluated in place; PERFORM is a query.
BEGIN = f"""
  IF now_us() > CAST(p->>'not_after_us' AS bigint) THEN
    RETURN jsonb_build_array('late', now_us());
  END IF;
  PERFORM pg_advisory_xact_lock_shared({ALL_LOCK}, CAST(p->>'schema_lock' AS integer));"""
_BEGIN_CALL = (
    BEGIN.removesuffix(";")
    + f""",
    pg_advisory_xact_lock({CALL_LOCK}, CAST(p->>'call_lock' AS integer));"""
)
_END_IN_TIME = """
  IF now_us() > CAST(p->>'not_after_us' AS bigint) THEN
    RAISE EXCEPTION 'too late' USING ERRCODE = 'CT002';
  END IF;"""

_CHECK_AGE = """
  SELECT CAST(value AS bigint) INTO pruned FROM meta WHERE name = 'pruned_before_us';
  IF pruned > c.timestamp_us THEN
    RETURN jsonb_build_array('old', pruned, now_us());
  END IF;"""


def _charge(row: str) -> str:
    return (
        f"coalesce({row}.cost_pico, 0), {row}.input_tokens + {row}.output_tokens, "
        f"CAST({row}.adjusts IS NULL AS integer)"
    )


def _given_back(row: str) -> str:
    return (
        f"- coalesce({row}.cost_pico, 0), - {row}.input_tokens - {row}.output_tokens, "
        f"- CAST({row}.adjusts IS NULL AS integer)"
    )


RESERVE = function(
    "reserve(p_text text) RETURNS text",
    """  p jsonb = CAST(p_text AS jsonb);
  c hold;
  known hold;
  who payers;
  limits spans;
  lim jsonb;
  b balance;
  is_over boolean;
  is_due boolean;
  pruned bigint;
  pico bigint;
  tokens bigint;
  calls bigint;
  done text;
  now bigint = coalesce(CAST(p->>'now_us' AS bigint), now_us());""",
    f"""{_BEGIN_CALL}
  c = jsonb_populate_record(CAST(NULL AS hold), p->'call');
  pico = coalesce(c.cost_pico, 0);
  tokens = c.input_tokens + c.output_tokens;
  calls = CAST(c.adjusts IS NULL AS integer);
  SELECT * INTO known FROM hold WHERE call_id = c.call_id;
  IF known.call_id IS NOT NULL THEN
    IF coalesce(known.cost_pico, 0) = pico AND known.input_tokens + known.output_tokens = tokens
        AND CAST(known.adjusts IS NULL AS integer) = calls
        AND (SELECT digest FROM payers WHERE id = known.payers_id) = CAST(p->>'payers' AS uuid)
    THEN
      UPDATE hold SET attempt = p->>'attempt' WHERE call_id = c.call_id;
      {_END_IN_TIME}
      RETURN jsonb_build_array('held', now_us());
    END IF;
    RETURN jsonb_build_array('other', now_us());
  END IF;
  SELECT EXISTS (SELECT 1 FROM entry WHERE call_id = c.call_id),
      EXISTS (SELECT 1 FROM hold WHERE lease_until_us <= now),
      (SELECT CAST(value AS bigint) FROM meta WHERE name = 'pruned_before_us'),
      payers.id, payers.owner_ids, label.id
    INTO is_over, is_due, pruned, who.id, who.owner_ids, c.label_id
    FROM (SELECT) AS one LEFT JOIN payers ON payers.digest = CAST(p->>'payers' AS uuid)
    LEFT JOIN label ON label.digest = CAST(p->'label'->>'digest' AS uuid);
  IF is_over THEN
    RETURN jsonb_build_array('over', now_us());
  END IF;
  IF pruned > c.timestamp_us THEN
    RETURN jsonb_build_array('old', pruned, now_us());
  END IF;
  IF is_due AND NOT CAST(p->>'has_lapsed' AS boolean) THEN
    RETURN jsonb_build_array('due', now_us());
  END IF;
  IF who.id IS NULL THEN
    who = payers_of(p);
  END IF;
  IF jsonb_array_length(p->'limits') > 0 THEN
    limits = known_spans_of(p->'limits', p->'limit_owners');
  END IF;
  IF c.label_id IS NULL THEN
    c.label_id = label_of(p->'label');
  END IF;
  c.payers_id = who.id;
  done = open_balances(who.owner_ids, limits, c.timestamp_us);
  FOR place IN 1 .. coalesce(cardinality(limits.owner_ids), 0) LOOP
    lim = p->'limits'->(place - 1);
    b = checked(limits, place);
    IF CAST(b.spent_pico AS numeric) + b.reserved_pico + pico > CAST(lim->>5 AS numeric)
        OR CAST(b.spent_tokens AS numeric) + b.reserved_tokens + tokens > CAST(lim->>6 AS numeric)
        OR CAST(b.spent_calls AS numeric) + b.reserved_calls + calls > CAST(lim->>7 AS numeric)
    THEN
      RETURN jsonb_build_array('refused', place - 1, b.spent_pico, b.spent_tokens, b.spent_calls,
        b.reserved_pico, b.reserved_tokens, b.reserved_calls, now_us());
    END IF;
  END LOOP;
  INSERT INTO hold ({_COLUMNS}, lease_until_us, process, attempt)
    VALUES ({_CALL_VALUES}, now + CAST(p->>'lease_us' AS bigint), p->>'process', p->>'attempt');
  done = move(who.owner_ids, c.timestamp_us, 0, 0, 0, pico, tokens, calls);
  {_END_IN_TIME}
  RETURN jsonb_build_array('held', now_us());""",
)

SETTLE = function(
    "settle(p_text text) RETURNS text",
    """  p jsonb = CAST(p_text AS jsonb);
  c hold;
  held hold;
  known entry;
  was hold;
  who bigint[];
  watches jsonb = p->'watches';
  spans spans;
  watch jsonb;
  pruned bigint;
  spent bigint;
  crossed jsonb = jsonb_build_array();
  done text;
  now bigint = coalesce(CAST(p->>'now_us' AS bigint), now_us());""",
    f"""{_BEGIN_CALL}
  c = jsonb_populate_record(CAST(NULL AS hold), p->'call');
  SELECT * INTO held FROM hold WHERE call_id = c.call_id FOR UPDATE;
  IF held.call_id IS NOT NULL THEN
    c.timestamp_us = held.timestamp_us;
    c.payers_id = held.payers_id;
  ELSE
    SELECT * INTO known FROM entry WHERE call_id = c.call_id FOR UPDATE;
    IF known.call_id IS NOT NULL THEN
      IF known.is_lapsed = 0 AND NOT CAST(p->>'amend' AS boolean) THEN
        RETURN jsonb_build_array(CASE WHEN known.cost_pico IS NOT DISTINCT FROM c.cost_pico
          THEN 'same' ELSE 'other' END, now_us());
      END IF;
      c.timestamp_us = known.timestamp_us;
      c.payers_id = known.payers_id;
      SELECT known.cost_pico, known.input_tokens, known.output_tokens, known.adjusts
        INTO was.cost_pico, was.input_tokens, was.output_tokens, was.adjusts;
    ELSE
      {_CHECK_AGE}
    END IF;
  END IF;
  IF jsonb_array_length(watches) > 0 THEN
    SELECT jsonb_agg(w) INTO watches FROM jsonb_array_elements(watches) AS w
      WHERE NOT EXISTS (SELECT 1 FROM alert WHERE digest = CAST(w->>6 AS uuid));
    IF watches IS NOT NULL THEN
      spans = known_spans_of(watches, p->'watch_owners');
    END IF;
  END IF;
  IF c.payers_id IS NULL THEN
    SELECT payers.id, payers.owner_ids, label.id INTO c.payers_id, who, c.label_id
      FROM (SELECT) AS one LEFT JOIN payers ON payers.digest = CAST(p->>'payers' AS uuid)
      LEFT JOIN label ON label.digest = CAST(p->'label'->>'digest' AS uuid);
    IF c.payers_id IS NULL THEN
      SELECT w.id, w.owner_ids INTO c.payers_id, who FROM payers_of(p) AS w;
    END IF;
  ELSE
    SELECT payers.owner_ids, label.id INTO who, c.label_id FROM payers
      LEFT JOIN label ON label.digest = CAST(p->'label'->>'digest' AS uuid)
      WHERE payers.id = c.payers_id;
  END IF;
  IF c.label_id IS NULL THEN
    c.label_id = label_of(p->'label');
  END IF;
  IF spans.owner_ids IS NOT NULL THEN -- a balance may begin, as the calls were before
    done = open_balances(who, spans, c.timestamp_us);
  END IF;
  IF known.call_id IS NOT NULL THEN
    UPDATE entry SET {_CHANGES}, is_lapsed = 0, attempt = NULL WHERE id = known.id;
  ELSE
    INSERT INTO entry (is_lapsed, {_COLUMNS}) VALUES (0, {_CALL_VALUES});
    IF held.call_id IS NOT NULL THEN
      DELETE FROM hold WHERE call_id = c.call_id;
    END IF;
  END IF;
  IF spans.owner_ids IS NULL THEN -- last, for whoever waits for these balances
    done = open_balances(who, spans, c.timestamp_us);
  END IF;
  IF known.call_id IS NOT NULL THEN
    done = move(who, c.timestamp_us, coalesce(c.cost_pico, 0) - coalesce(was.cost_pico, 0),
      c.input_tokens + c.output_tokens - was.input_tokens - was.output_tokens,
      CAST(c.adjusts IS NULL AS integer) - CAST(was.adjusts IS NULL AS integer), 0, 0, 0);
    IF known.label_id < c.label_id THEN
      done = add_total(c.timestamp_us, known.label_id, -1, was);
    END IF;
    done = add_total(c.timestamp_us, c.label_id, 1, c);
    IF known.label_id >= c.label_id THEN
      done = add_total(c.timestamp_us, known.label_id, -1, was);
    END IF;
  ELSIF held.call_id IS NOT NULL THEN
    done = move(who, c.timestamp_us, {_charge("c")}, {_given_back("held")});
    done = add_total(c.timestamp_us, c.label_id, 1, c);
  ELSE
    done = move(who, c.timestamp_us, {_charge("c")}, 0, 0, 0);
    done = add_total(c.timestamp_us, c.label_id, 1, c);
  END IF;
  FOR place IN 1 .. coalesce(cardinality(spans.owner_ids), 0) LOOP
    watch = watches->(place - 1);
    spent = (checked(spans, place)).spent_pico;
    IF spent >= CAST(watch->>5 AS numeric) THEN
      INSERT INTO alert VALUES (CAST(watch->>6 AS uuid), watch->>7, watch->>1,
          CAST(watch->>2 AS bigint), CAST(watch->>3 AS bigint), CAST(watch->>4 AS boolean),
          CAST(watch->>5 AS numeric), spent, now, false)
        ON CONFLICT DO NOTHING;
      IF FOUND THEN
        crossed = crossed || jsonb_build_array(jsonb_build_array(watch->>6, spent));
      END IF;
    END IF;
  END LOOP;
  {_END_IN_TIME}
  RETURN jsonb_build_array('settled', crossed, now_us());""",
)

RELEASE = function(
    "release(p_text text) RETURNS text",
    """  p jsonb = CAST(p_text AS jsonb);
  held hold;
  known entry;
  was hold;
  who bigint[];
  done text;""",
    f"""{_BEGIN_CALL}
  -- with an attempt it is undone only if that attempt was the last to ask for it
  SELECT * INTO held FROM hold WHERE call_id = p->>'call_id'
    AND (p->>'attempt' IS NULL OR attempt = p->>'attempt') FOR UPDATE;
  IF held.call_id IS NOT NULL THEN
    SELECT owner_ids INTO who FROM payers WHERE id = held.payers_id;
    done = open_balances(who, CAST(NULL AS spans), held.timestamp_us);
    DELETE FROM hold WHERE call_id = held.call_id;
    done = move(who, held.timestamp_us, 0, 0, 0, {_given_back("held")});
    {_END_IN_TIME}
    RETURN jsonb_build_array(true, now_us());
  END IF;
  SELECT * INTO known FROM entry WHERE call_id = p->>'call_id' AND is_lapsed = 1
    AND (p->>'attempt' IS NULL OR attempt = p->>'attempt') FOR UPDATE;
  IF known.call_id IS NULL THEN
    RETURN jsonb_build_array(false, now_us());
  END IF;
  SELECT owner_ids INTO who FROM payers WHERE id = known.payers_id;
  SELECT known.cost_pico, known.input_tokens, known.output_tokens, known.adjusts
    INTO was.cost_pico, was.input_tokens, was.output_tokens, was.adjusts;
  done = open_balances(who, CAST(NULL AS spans), known.timestamp_us);
  DELETE FROM entry WHERE id = known.id;
  done = move(who, known.timestamp_us, {_given_back("was")}, 0, 0, 0);
  done = add_total(known.timestamp_us, known.label_id, -1, was);
  {_END_IN_TIME}
  RETURN jsonb_build_array(true, now_us());""",
)

STEPS = (
    RESERVE,
    SETTLE,
    RELEASE,
)
