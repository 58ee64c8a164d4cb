"""The tables of a SQLite ledger, and how a file becomes one.

    label    what many entries have in common: function, user, model, tags, ...
    payers   a set of owners; payer lists who is in it
    hold     calls that were reserved and not settled yet
    entry    the ledger: one row for each call, in the order it came in
    total    sums of entries by day and label; is_gone marks those whose entries were pruned
    minute   what an owner was charged in each minute; is_gone likewise
    balance  running balances of owners in spans; only a memory of sums, may be deleted
    alert    thresholds that were crossed
    budget   terms as they were last used
    meta     facts about the file

Money is whole picodollars (1e-12 USD), times are microseconds since the epoch. The views `costs`,
`holds` and `spent_by_owner` show the same in dollars and dates to a reader with the sqlite3 shell.
"""

from __future__ import annotations

APPLICATION_ID = 0x436F5374  # "CoSt": tells a ledger from another program's database
EARLIEST_SQLITE = (3, 37, 0)  # the first with STRICT tables

_CALL_COLUMNS = """
    call_id TEXT NOT NULL,
    timestamp_us INTEGER NOT NULL,  -- when it was authorized
    label_id INTEGER NOT NULL,
    payers_id INTEGER NOT NULL,
    cost_pico INTEGER,  -- NULL: no price is known
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    usage_rest TEXT,  -- JSON of the counts that few calls have
    reserved_pico INTEGER,
    duration_s REAL,
    attempts INTEGER NOT NULL,
    response_id TEXT,
    gateway_cost_usd TEXT,  -- decimal
    adjusts TEXT,  -- the call that this line corrects; such a line is no call"""

_SUMS = """
    spent_pico INTEGER NOT NULL,
    spent_tokens INTEGER NOT NULL,
    spent_calls INTEGER NOT NULL"""

FIRST_TABLES = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE label (
    id INTEGER PRIMARY KEY,
    digest BLOB UNIQUE,  -- of all that follows; NULL for a renamed one that equals another
    function_name TEXT NOT NULL,
    user_id TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    operation TEXT NOT NULL,
    request_model TEXT NOT NULL,
    service_tier TEXT NOT NULL,
    region TEXT NOT NULL,
    status TEXT NOT NULL,
    grade TEXT NOT NULL,
    price_id TEXT,
    streamed INTEGER NOT NULL,
    call_path TEXT NOT NULL,  -- JSON list
    tags TEXT NOT NULL  -- JSON list of pairs
) STRICT;
CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE payers (id INTEGER PRIMARY KEY, digest BLOB UNIQUE) STRICT;
CREATE TABLE payer (
    payers_id INTEGER NOT NULL,
    owner_id INTEGER NOT NULL,
    PRIMARY KEY (payers_id, owner_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX payer_by_owner ON payer (owner_id);
CREATE TABLE hold ({_CALL_COLUMNS}
    lease_until_us INTEGER NOT NULL,
    process TEXT NOT NULL,
    PRIMARY KEY (call_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX hold_by_lease ON hold (lease_until_us);
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    is_lapsed INTEGER NOT NULL,  -- nobody settled it: charged as its worst case{_CALL_COLUMNS}
    UNIQUE (call_id)
) STRICT;
CREATE INDEX entry_by_time ON entry (timestamp_us);
-- The end of an answer's id tells it from almost all others and takes a sixth of the room.
CREATE INDEX entry_by_response ON entry (substr(response_id, -6)) WHERE response_id IS NOT NULL;
CREATE TABLE total (
    day INTEGER NOT NULL,  -- since 1970-01-01, UTC
    label_id INTEGER NOT NULL,
    is_gone INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost_pico INTEGER NOT NULL,
    unpriced_calls INTEGER NOT NULL,
    PRIMARY KEY (day, label_id, is_gone)
) STRICT, WITHOUT ROWID;
CREATE TABLE minute (
    owner_id INTEGER NOT NULL,
    minute INTEGER NOT NULL,  -- since 1970-01-01, UTC
    is_gone INTEGER NOT NULL,{_SUMS},
    PRIMARY KEY (owner_id, minute, is_gone)
) STRICT, WITHOUT ROWID;
CREATE TABLE balance (
    owner_id INTEGER NOT NULL,
    start_us INTEGER NOT NULL,
    end_us INTEGER NOT NULL,{_SUMS},
    reserved_pico INTEGER NOT NULL CHECK (reserved_pico >= 0),
    reserved_tokens INTEGER NOT NULL CHECK (reserved_tokens >= 0),
    reserved_calls INTEGER NOT NULL CHECK (reserved_calls >= 0),
    PRIMARY KEY (owner_id, start_us, end_us)
) STRICT, WITHOUT ROWID;
CREATE TABLE alert (
    key TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    start_us INTEGER NOT NULL,
    end_us INTEGER NOT NULL,
    is_rolling INTEGER NOT NULL,
    threshold_pico INTEGER NOT NULL,
    spent_pico INTEGER NOT NULL,  -- when it was crossed
    handed_out_us INTEGER NOT NULL,
    is_delivered INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE budget (
    user_id TEXT,  -- NULL: the ledger's own
    window TEXT,
    tz TEXT,
    limit_pico TEXT,  -- a limit may be above what 64 bits hold
    alert_at TEXT NOT NULL  -- JSON list
) STRICT;
"""

FIRST_VIEWS = """
CREATE VIEW costs AS
    SELECT entry.id, strftime('%Y-%m-%d %H:%M:%S', timestamp_us / 1000000, 'unixepoch') AS at,
        function_name, user_id, model, provider, operation, service_tier, status, grade,
        input_tokens, output_tokens, cost_pico / 1e12 AS cost_usd, is_lapsed, call_path, tags,
        call_id, response_id
    FROM entry JOIN label ON label.id = label_id;
CREATE VIEW holds AS
    SELECT strftime('%Y-%m-%d %H:%M:%S', timestamp_us / 1000000, 'unixepoch') AS at,
        function_name, user_id, model, cost_pico / 1e12 AS reserved_usd,
        strftime('%Y-%m-%d %H:%M:%S', lease_until_us / 1000000, 'unixepoch') AS lapses_at,
        process, call_id
    FROM hold JOIN label ON label.id = label_id;
CREATE VIEW spent_by_owner AS
    SELECT owner.name AS owner, date(minute * 60, 'unixepoch') AS day,
        sum(spent_pico) / 1e12 AS spent_usd, sum(spent_tokens) AS tokens, sum(spent_calls) AS calls
    FROM minute JOIN owner ON owner.id = owner_id GROUP BY owner.name, 2;
"""

MIGRATIONS = (  # PRAGMA user_version counts the applied ones; a released one never changes
    FIRST_TABLES + FIRST_VIEWS,
)
