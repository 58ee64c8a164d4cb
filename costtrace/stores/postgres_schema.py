"""The tables of a PostgreSQL ledger, and how a schema becomes one.

    label    what many entries have in common: function, user, model, tags, ...
    owner    who pays; payers is a set of them, the view payer lists who is in it
    hold     calls that were reserved and not settled yet
    entry    the ledger: one row for each call, in the order it came in
    total    sums of entries by day and label; is_gone marks those whose entries were pruned
    minute   what an owner was charged in each minute; is_gone likewise
    balance  running balances of owners in spans; only a memory of sums, may be deleted
    alert    thresholds that were crossed
    budget   terms as they were last used
    meta     facts about the schema

Money is whole picodollars (1e-12 USD), times are microseconds since the epoch. Totals and minutes
are kept in several slots, one for each of a few connections, so that writers whom no limit ties
together do not wait for each other; whoever reads adds them up. A text holds no NUL here: those of
names are written as U+0001 and a letter, see `dbapi_driver.escaped`.

No statement contains a percent or question mark or a single colon: drivers look for parameters
there.
"""

from __future__ import annotations

from costtrace.stores.postgres_functions import FUNCTIONS, SPANS, SPANS_TO_SUM
from costtrace.stores.postgres_steps import STEPS
from costtrace.stores.postgres_upkeep import RARE_STEPS

EARLIEST_POSTGRES = 120000

_CALL_COLUMNS = """
    call_id text NOT NULL,
    timestamp_us bigint NOT NULL,
    label_id bigint NOT NULL,
    payers_id bigint NOT NULL,
    cost_pico bigint,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    usage_rest text,
    reserved_pico bigint,
    duration_s double precision,
    attempts bigint NOT NULL,
    response_id text,
    gateway_cost_usd text,
    adjusts text"""

_SUMS = """
    spent_pico bigint NOT NULL,
    spent_tokens bigint NOT NULL,
    spent_calls bigint NOT NULL"""

_ID = "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"

FIRST_TABLES = (
    f"""CREATE TABLE label (
    {_ID},
    digest uuid UNIQUE, -- NULL, where another label has come to say the same
    function_name text NOT NULL,
    user_id text NOT NULL,
    model text NOT NULL,
    provider text NOT NULL,
    operation text NOT NULL,
    request_model text NOT NULL,
    service_tier text NOT NULL,
    region text NOT NULL,
    status text NOT NULL,
    grade text NOT NULL,
    price_id text,
    streamed boolean NOT NULL,
    call_path text NOT NULL, -- JSON list
    tags text NOT NULL -- JSON list of pairs
)""",
    "CREATE INDEX label_by_user ON label USING hash (user_id)",
    f"CREATE TABLE owner ({_ID}, digest uuid NOT NULL UNIQUE, name text NOT NULL)",
    f"CREATE TABLE payers ({_ID}, digest uuid UNIQUE, owner_ids bigint[] NOT NULL)",
    "CREATE INDEX payers_by_owner ON payers USING gin (owner_ids) WITH (fastupdate = off)",
    """CREATE VIEW payer AS
    SELECT id AS payers_id, unnest(owner_ids) AS owner_id FROM payers""",
    # A hash finds texts of any length; as an exclusion it also keeps each from coming twice.
    f"""CREATE TABLE hold ({_CALL_COLUMNS},
    lease_until_us bigint NOT NULL,
    process text NOT NULL,
    attempt text NOT NULL, -- who asked for it last
    CONSTRAINT hold_once EXCLUDE USING hash (call_id WITH =)
)""",
    "CREATE INDEX hold_by_lease ON hold (lease_until_us)",
    f"""CREATE TABLE entry (
    {_ID},
    is_lapsed integer NOT NULL, -- nobody settled it, it is charged as its worst case
    attempt text,{_CALL_COLUMNS},
    CONSTRAINT entry_once EXCLUDE USING hash (call_id WITH =)
)""",
    "CREATE INDEX entry_by_time ON entry (timestamp_us)",
    """CREATE INDEX entry_by_response ON entry USING hash (substr(response_id, -6))
    WHERE response_id IS NOT NULL""",
    "CREATE INDEX entry_that_lapsed ON entry (id) WHERE is_lapsed = 1",
    """CREATE TABLE total (
    day bigint NOT NULL, -- since 1970-01-01, UTC
    label_id bigint NOT NULL,
    is_gone integer NOT NULL,
    slot integer NOT NULL,
    entries bigint NOT NULL,
    calls bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    cost_pico bigint NOT NULL,
    unpriced_calls bigint NOT NULL,
    PRIMARY KEY (day, label_id, is_gone, slot)
) WITH (fillfactor = 50)""",
    f"""CREATE TABLE minute (
    owner_id bigint NOT NULL,
    minute bigint NOT NULL, -- since 1970-01-01, UTC
    is_gone integer NOT NULL,
    slot integer NOT NULL,{_SUMS},
    PRIMARY KEY (owner_id, minute, is_gone, slot)
) WITH (fillfactor = 50)""",
    f"""CREATE TABLE balance (
    owner_id bigint NOT NULL,
    start_us bigint NOT NULL,
    end_us bigint NOT NULL,{_SUMS},
    reserved_pico bigint NOT NULL CHECK (reserved_pico >= 0),
    reserved_tokens bigint NOT NULL CHECK (reserved_tokens >= 0),
    reserved_calls bigint NOT NULL CHECK (reserved_calls >= 0),
    PRIMARY KEY (owner_id, start_us, end_us)
) WITH (fillfactor = 10)""",  # room for many versions of a busy row on one page
    """CREATE TABLE alert (
    digest uuid PRIMARY KEY,
    key text NOT NULL,
    owner text NOT NULL,
    start_us bigint NOT NULL,
    end_us bigint NOT NULL,
    is_rolling boolean NOT NULL,
    threshold_pico numeric NOT NULL,
    spent_pico bigint NOT NULL, -- when it was crossed
    handed_out_us bigint NOT NULL,
    is_delivered boolean NOT NULL
)""",
    "CREATE INDEX alert_undelivered ON alert (handed_out_us) WHERE NOT is_delivered",
    """CREATE TABLE budget (
    digest uuid PRIMARY KEY, -- of the user and the window
    user_id text, -- NULL, the ledger's own
    window_name text,
    tz text,
    limit_pico numeric,
    alert_at text NOT NULL -- JSON list
)""",
    """CREATE VIEW costs AS
    SELECT entry.id, to_timestamp(timestamp_us / 1000000.0) AS at,
        function_name, user_id, model, provider, operation, service_tier, status, grade,
        input_tokens, output_tokens, cost_pico / 1000000000000.0 AS cost_usd, is_lapsed,
        call_path, tags, call_id, response_id
    FROM entry JOIN label ON label.id = label_id""",
    """CREATE VIEW holds AS
    SELECT to_timestamp(timestamp_us / 1000000.0) AS at, function_name, user_id, model,
        cost_pico / 1000000000000.0 AS reserved_usd,
        to_timestamp(lease_until_us / 1000000.0) AS lapses_at, process, call_id
    FROM hold JOIN label ON label.id = label_id""",
    """CREATE VIEW spent_by_owner AS
    SELECT owner.name AS owner,
        CAST(to_timestamp(minute * 60) AT TIME ZONE 'UTC' AS date) AS day,
        sum(spent_pico) / 1000000000000.0 AS spent_usd, sum(spent_tokens) AS tokens,
        sum(spent_calls) AS calls
    FROM minute JOIN owner ON owner.id = owner_id GROUP BY 1, 2""",
)

# meta counts the applied ones; what they do to tables and types never changes. Functions hold
# nothing: the last migration replaces all of them, whatever they were before.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (*FIRST_TABLES, SPANS),
    (SPANS_TO_SUM, *FUNCTIONS, *STEPS, *RARE_STEPS),
)
META_TABLE = "CREATE TABLE meta (name text PRIMARY KEY, value text NOT NULL)"
