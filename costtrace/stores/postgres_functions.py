"""The steps of the protocol as functions inside of PostgreSQL: one round trip and one commit each.

Each takes its arguments as one JSON text and answers with a JSON list: a word, what belongs to it,
and last the server's clock. What a step cannot do is answered with a word as well; only what must
undo the step is raised: CT001 (names have changed meanwhile, again) and CT002 (too late).

Locks are always taken in this order, within one kind by ascending number, so that nobody waits in
a circle: everything (shared; alone for prune and rename) - the call - new names - owners (shared;
alone by who makes a sum of an owner's calls) - balances - minutes - totals - alerts. Under READ
COMMITTED each statement sees what was committed before it, so also what its locks waited for.

A step that begins or ends after `not_after_us` (the server's clock) undoes itself: its caller has
been told that it failed. The lock on the call makes `void` wait for a step that is still at work.
"""

from __future__ import annotations

from costtrace.stores.rows import CEILING, DAY_US, MINUTE_US, Label

SLOTS = 16
ALL_LOCK, CALL_LOCK, OWNER_LOCK = 0x43540000, 0x43540001, 0x43540002
"""The first of two numbers of each advisory lock; the second says which schema, call or owner."""
_LABEL_COLUMNS = ", ".join(Label._fields)
_LABEL_VALUES = ", ".join(f"l.{name}" for name in Label._fields)
ADD_TO_TOTALS = """ON CONFLICT (day, label_id, is_gone, slot) DO UPDATE SET
      entries = total.entries + excluded.entries,
      calls = total.calls + excluded.calls,
      prompt_tokens = total.prompt_tokens + excluded.prompt_tokens,
      completion_tokens = total.completion_tokens + excluded.completion_tokens,
      cost_pico = total.cost_pico + excluded.cost_pico,
      unpriced_calls = total.unpriced_calls + excluded.unpriced_calls"""
ADD_TO_MINUTES = """ON CONFLICT (owner_id, minute, is_gone, slot) DO UPDATE SET
      spent_pico = minute.spent_pico + excluded.spent_pico,
      spent_tokens = minute.spent_tokens + excluded.spent_tokens,
      spent_calls = minute.spent_calls + excluded.spent_calls"""
SLOT = f"mod(pg_backend_pid(), {SLOTS})"


def function(head: str, declared: str, body: str, language: str = "plpgsql") -> str:
    declared = f"DECLARE\n{declared}\n" if declared else ""
    head = f"CREATE OR REPLACE FUNCTION {head} LANGUAGE {language}"
    return f"{head} AS $$\n{declared}BEGIN\n{body}\nEND\n$$"


NOW = """CREATE OR REPLACE FUNCTION now_us() RETURNS bigint LANGUAGE sql AS $$
  SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)
$$"""

OWNERS = function(
    "owner_ids_of(p_owners jsonb) RETURNS bigint[]",
    "  ids bigint[];",
    """
  -- p_owners lists pairs of digest and name, each once
  SELECT array_agg(owner.id ORDER BY owner.id) INTO ids
    FROM jsonb_array_elements(p_owners) AS o JOIN owner ON digest = CAST(o->>0 AS uuid);
  IF coalesce(cardinality(ids), 0) < jsonb_array_length(p_owners) THEN
    INSERT INTO owner (digest, name)
      SELECT CAST(o->>0 AS uuid), o->>1 FROM jsonb_array_elements(p_owners) AS o ORDER BY 1
      ON CONFLICT DO NOTHING;
    SELECT array_agg(owner.id ORDER BY owner.id) INTO ids
      FROM jsonb_array_elements(p_owners) AS o JOIN owner ON digest = CAST(o->>0 AS uuid);
  END IF;
  RETURN coalesce(ids, CAST(ARRAY[] AS bigint[]));""",
)

PAYERS = function(
    "payers_of(p jsonb) RETURNS payers",
    "  found_row payers;",
    """
  SELECT * INTO found_row FROM payers WHERE digest = CAST(p->>'payers' AS uuid);
  IF found_row.id IS NULL THEN
    INSERT INTO payers (digest, owner_ids)
      VALUES (CAST(p->>'payers' AS uuid), owner_ids_of(p->'owners')) ON CONFLICT DO NOTHING;
    SELECT * INTO found_row FROM payers WHERE digest = CAST(p->>'payers' AS uuid);
  END IF;
  RETURN found_row;""",
)

LABEL = function(
    "label_of(p jsonb) RETURNS bigint",
    "  found_id bigint;\n  l label;",
    f"""
  SELECT id INTO found_id FROM label WHERE digest = CAST(p->>'digest' AS uuid);
  IF found_id IS NULL THEN
    l = jsonb_populate_record(CAST(NULL AS label), p);
    INSERT INTO label (digest, {_LABEL_COLUMNS}) VALUES (l.digest, {_LABEL_VALUES})
      ON CONFLICT DO NOTHING;
    SELECT id INTO found_id FROM label WHERE digest = l.digest;
  END IF;
  RETURN found_id;""",
)

SUMMED = f"""CREATE OR REPLACE FUNCTION summed(p_owner bigint, p_start bigint, p_end bigint,
  OUT spent_pico bigint, OUT spent_tokens bigint, OUT spent_calls bigint,
  OUT reserved_pico bigint, OUT reserved_tokens bigint, OUT reserved_calls bigint)
LANGUAGE sql AS $$
  -- one statement, so that all of it is of one moment; whole minutes less the calls of the first
  -- and the last one that lie outside
  WITH edge AS (
    SELECT cost_pico, input_tokens + output_tokens AS tokens, adjusts
      FROM entry JOIN payers ON payers.id = payers_id
      WHERE owner_ids @> ARRAY[p_owner]
        AND timestamp_us >= p_start / {MINUTE_US} * {MINUTE_US} AND timestamp_us < p_start
    UNION ALL
    SELECT cost_pico, input_tokens + output_tokens, adjusts
      FROM entry JOIN payers ON payers.id = payers_id
      WHERE owner_ids @> ARRAY[p_owner] AND timestamp_us >= p_end
        AND timestamp_us < (p_end + {MINUTE_US - 1}) / {MINUTE_US} * {MINUTE_US}
  ), outside AS (
    SELECT coalesce(sum(cost_pico), 0) AS pico, coalesce(sum(tokens), 0) AS tokens,
        count(*) FILTER (WHERE adjusts IS NULL) AS calls FROM edge
  ), spent AS (
    SELECT coalesce(sum(minute.spent_pico), 0) AS pico,
        coalesce(sum(minute.spent_tokens), 0) AS tokens,
        coalesce(sum(minute.spent_calls), 0) AS calls
      FROM minute WHERE owner_id = p_owner AND minute >= p_start / {MINUTE_US}
        AND minute < (p_end + {MINUTE_US - 1}) / {MINUTE_US}
  ), held AS (
    SELECT coalesce(sum(cost_pico), 0) AS pico,
        coalesce(sum(input_tokens + output_tokens), 0) AS tokens,
        count(*) FILTER (WHERE adjusts IS NULL) AS calls
      FROM hold JOIN payers ON payers.id = payers_id
      WHERE owner_ids @> ARRAY[p_owner] AND timestamp_us >= p_start AND timestamp_us < p_end
  )
  SELECT CAST(spent.pico - outside.pico AS bigint), CAST(spent.tokens - outside.tokens AS bigint),
      CAST(spent.calls - outside.calls AS bigint), CAST(held.pico AS bigint),
      CAST(held.tokens AS bigint), held.calls
    FROM spent, outside, held
$$"""

SPANS = """CREATE TYPE spans AS (
  owner_ids bigint[], starts bigint[], ends bigint[], are_rolling boolean[]
)"""
# owners whose calls have to be summed: the span rolls, or its balance does not run yet
SPANS_TO_SUM = "ALTER TYPE spans ADD ATTRIBUTE to_sum bigint[]"

SPANS_OF = function(
    "spans_of(p_spans jsonb) RETURNS spans",
    "  found_spans spans;",
    f"""
  -- p_spans lists owner digest, owner name, start, end, is rolling
  SELECT array_agg(owner.id ORDER BY place), array_agg(CAST(span->>2 AS bigint) ORDER BY place),
      array_agg(CASE WHEN CAST(span->>4 AS boolean) THEN {CEILING}
        ELSE CAST(span->>3 AS bigint) END ORDER BY place),
      array_agg(CAST(span->>4 AS boolean) ORDER BY place),
      array_agg(owner.id) FILTER (WHERE CAST(span->>4 AS boolean) OR balance.owner_id IS NULL)
    INTO found_spans.owner_ids, found_spans.starts, found_spans.ends, found_spans.are_rolling,
      found_spans.to_sum
    FROM jsonb_array_elements(p_spans) WITH ORDINALITY AS w(span, place)
    JOIN owner ON digest = CAST(w.span->>0 AS uuid)
    LEFT JOIN balance ON owner_id = owner.id AND start_us = CAST(span->>2 AS bigint)
      AND end_us = CAST(span->>3 AS bigint);
  RETURN found_spans;""",
)

KNOWN_SPANS_OF = function(
    "known_spans_of(p_spans jsonb, p_owners jsonb) RETURNS spans",
    "  found_spans spans = spans_of(p_spans);",
    """
  IF cardinality(found_spans.owner_ids) = jsonb_array_length(p_spans) THEN
    RETURN found_spans;
  END IF;
  PERFORM owner_ids_of(p_owners); -- which makes those that nobody has named before
  RETURN spans_of(p_spans);""",
)

RUNNING = """CREATE OR REPLACE FUNCTION running(p_owner bigint, p_start bigint, p_end bigint,
  p_is_rolling boolean, OUT spent_pico bigint, OUT spent_tokens bigint, OUT spent_calls bigint,
  OUT reserved_pico bigint, OUT reserved_tokens bigint, OUT reserved_calls bigint)
LANGUAGE plpgsql AS $$
BEGIN
  IF NOT p_is_rolling THEN
    SELECT b.spent_pico, b.spent_tokens, b.spent_calls, b.reserved_pico, b.reserved_tokens,
        b.reserved_calls
      INTO spent_pico, spent_tokens, spent_calls, reserved_pico, reserved_tokens, reserved_calls
      FROM balance AS b WHERE owner_id = p_owner AND start_us = p_start AND end_us = p_end;
    IF FOUND THEN
      RETURN;
    END IF;
  END IF;
  SELECT s.spent_pico, s.spent_tokens, s.spent_calls, s.reserved_pico, s.reserved_tokens,
      s.reserved_calls
    INTO spent_pico, spent_tokens, spent_calls, reserved_pico, reserved_tokens, reserved_calls
    FROM summed(p_owner, p_start, p_end) AS s;
END
$$"""

OPEN_BALANCES = function(
    "open_balances(p_payers bigint[], p_spans spans, p_at bigint) RETURNS void",
    """  ids bigint[] = p_payers;
  found_owners bigint;
  one bigint;
  done text;
  w record;""",
    f"""
  -- Locks the owners and all balances that a move at that time changes or a limit looks at. Whoever
  -- sums an owner's calls must be alone with it, for a rolling span or to begin a running balance.
  IF NOT p_payers @> p_spans.owner_ids THEN
    SELECT array_agg(DISTINCT id) INTO ids FROM unnest(p_payers || p_spans.owner_ids) AS id;
  END IF;
  FOR place IN 2 .. cardinality(ids) LOOP
    IF ids[place] < ids[place - 1] THEN
      SELECT array_agg(id ORDER BY id) INTO ids FROM unnest(ids) AS id;
      EXIT;
    END IF;
  END LOOP;
  FOREACH one IN ARRAY ids LOOP
    IF one = ANY(p_spans.to_sum) THEN
      done = pg_advisory_xact_lock({OWNER_LOCK}, CAST(mod(one, 2147483647) AS integer));
    ELSE
      done = pg_advisory_xact_lock_shared({OWNER_LOCK}, CAST(mod(one, 2147483647) AS integer));
    END IF;
  END LOOP;
  IF p_spans.to_sum IS NOT NULL THEN
    FOR w IN SELECT DISTINCT s.owner_id, s.start_us, s.end_us
        FROM unnest(p_spans.owner_ids, p_spans.starts, p_spans.ends, p_spans.are_rolling)
          AS s(owner_id, start_us, end_us, is_rolling)
        WHERE NOT s.is_rolling AND NOT EXISTS (SELECT 1 FROM balance AS b
          WHERE b.owner_id = s.owner_id AND b.start_us = s.start_us AND b.end_us = s.end_us)
        ORDER BY 1, 2, 3 LOOP
      IF NOT w.owner_id = ANY(p_spans.to_sum) THEN
        RAISE EXCEPTION 'a balance was put aside' USING ERRCODE = 'CT001';
      END IF;
      PERFORM begin_balance(w.owner_id, w.start_us, w.end_us);
    END LOOP;
  END IF;
  IF p_spans.owner_ids IS NULL
      OR (p_at >= ALL(p_spans.starts) AND p_at < ALL(p_spans.ends)) THEN
    SELECT (SELECT count(*) FROM owner WHERE id = ANY(ids)) + 0 * count(locked.n)
      INTO found_owners FROM (
        SELECT 1 AS n FROM balance WHERE owner_id = ANY(ids)
          AND start_us <= p_at AND end_us > p_at
          ORDER BY owner_id, start_us, end_us FOR UPDATE) AS locked;
  ELSE
    SELECT (SELECT count(*) FROM owner WHERE id = ANY(ids)) + 0 * count(locked.n)
      INTO found_owners FROM (
        SELECT 1 AS n FROM balance WHERE owner_id = ANY(ids) AND (
          (start_us <= p_at AND end_us > p_at) OR (owner_id, start_us, end_us) IN (
            SELECT * FROM unnest(p_spans.owner_ids, p_spans.starts, p_spans.ends)))
          ORDER BY owner_id, start_us, end_us FOR UPDATE) AS locked;
  END IF;
  IF found_owners < cardinality(ids) THEN
    RAISE EXCEPTION 'an owner was dropped' USING ERRCODE = 'CT001';
  END IF;""",
)

CHECKED = function(
    "checked(p_spans spans, p_place integer) RETURNS balance",
    "  b balance;",
    """
  -- the balance of one of the spans, whose owner is locked
  IF p_spans.are_rolling[p_place] THEN
    SELECT p_spans.owner_ids[p_place], p_spans.starts[p_place], p_spans.ends[p_place], s.* INTO b
      FROM summed(p_spans.owner_ids[p_place], p_spans.starts[p_place], p_spans.ends[p_place]) AS s;
  ELSE
    SELECT * INTO b FROM balance WHERE owner_id = p_spans.owner_ids[p_place]
      AND start_us = p_spans.starts[p_place] AND end_us = p_spans.ends[p_place];
    IF b.owner_id IS NULL THEN
      RAISE EXCEPTION 'a balance was put aside' USING ERRCODE = 'CT001';
    END IF;
  END IF;
  RETURN b;""",
)

BEGIN_BALANCE = """CREATE OR REPLACE FUNCTION begin_balance(
  p_owner bigint, p_start bigint, p_end bigint)
RETURNS void LANGUAGE sql AS $$
  -- of an owner's running balances sixteen are kept; those that ended first make room
  DELETE FROM balance WHERE owner_id = p_owner AND (start_us, end_us) IN (
    SELECT start_us, end_us FROM balance WHERE owner_id = p_owner
      ORDER BY end_us DESC, start_us DESC OFFSET 15);
  INSERT INTO balance (owner_id, start_us, end_us, spent_pico, spent_tokens, spent_calls,
      reserved_pico, reserved_tokens, reserved_calls)
    SELECT p_owner, p_start, p_end, s.spent_pico, s.spent_tokens, s.spent_calls, s.reserved_pico,
      s.reserved_tokens, s.reserved_calls FROM summed(p_owner, p_start, p_end) AS s
$$"""

MOVE = function(
    """move(p_payers bigint[], p_at bigint, p_pico bigint, p_tokens bigint, p_calls bigint,
  p_held_pico bigint, p_held_tokens bigint, p_held_calls bigint) RETURNS void""",
    "",
    f"""
  UPDATE balance SET spent_pico = spent_pico + p_pico, spent_tokens = spent_tokens + p_tokens,
      spent_calls = spent_calls + p_calls, reserved_pico = reserved_pico + p_held_pico,
      reserved_tokens = reserved_tokens + p_held_tokens,
      reserved_calls = reserved_calls + p_held_calls
    WHERE owner_id = ANY(p_payers) AND start_us <= p_at AND end_us > p_at;
  IF p_pico <> 0 OR p_tokens <> 0 OR p_calls <> 0 THEN
    INSERT INTO minute (owner_id, minute, is_gone, slot, spent_pico, spent_tokens, spent_calls)
      SELECT id, p_at / {MINUTE_US}, 0, {SLOT}, p_pico, p_tokens, p_calls
        FROM unnest(p_payers) AS id ORDER BY id
      {ADD_TO_MINUTES};
  END IF;""",
)

ADD_TOTAL = function(
    "add_total(p_at bigint, p_label bigint, p_sign integer, c hold) RETURNS void",
    "",
    f"""
  INSERT INTO total (day, label_id, is_gone, slot, entries, calls, prompt_tokens,
      completion_tokens, cost_pico, unpriced_calls)
    VALUES (p_at / {DAY_US}, p_label, 0, {SLOT}, p_sign,
      p_sign * CAST(c.adjusts IS NULL AS integer), p_sign * c.input_tokens,
      p_sign * c.output_tokens, p_sign * coalesce(c.cost_pico, 0),
      p_sign * CAST(c.adjusts IS NULL AND c.cost_pico IS NULL AS integer))
    {ADD_TO_TOTALS};""",
)

FUNCTIONS = (
    NOW,
    OWNERS,
    PAYERS,
    LABEL,
    SUMMED,
    RUNNING,
    SPANS_OF,
    KNOWN_SPANS_OF,
    BEGIN_BALANCE,
    OPEN_BALANCES,
    CHECKED,
    MOVE,
    ADD_TOTAL,
)
