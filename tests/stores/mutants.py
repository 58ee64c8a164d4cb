"""Faults put into a copy of the stores on purpose, each of which some test must find.

A mutant is a few changes of text. Each text must stand in its file exactly once; where the code has
changed so that it does not, the mutant is to be written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MACHINE = {
    "memory": "test_store_machine.py::test_memory_store_does_what_the_model_does",
    "sqlite": "test_store_machine.py::test_sqlite_store_does_what_the_model_does",
    "postgres": "test_server_machine.py::test_dbapi_store_does_what_the_model_does",
    "redis": "test_server_machine.py::test_redis_store_does_what_the_model_does",
}


@dataclass(frozen=True)
class Change:
    """A text of a file of the stores, and what is put in its place."""

    file: str
    old: str
    new: str

    def apply(self, stores: Path) -> None:
        """Change the copy; raises where the text is not there just once."""
        path = stores / f"{self.file}.py"
        text = path.read_text()
        assert text.count(self.old) == 1, (
            f"{self.file}.py has this {text.count(self.old)} times, so the mutant is to be "
            f"written anew: {self.old}"
        )
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Mutant:
    """A fault, and the test that must find it."""

    name: str
    kind: str
    changes: tuple[Change, ...]
    found_by: str = ""

    @property
    def killer(self) -> str:
        return self.found_by or MACHINE[self.kind]


def mutant(name: str, kind: str, file: str, *texts: tuple[str, str], found_by: str = "") -> Mutant:
    return Mutant(name, kind, tuple(Change(file, *text) for text in texts), found_by)


RESERVED_IGNORED = "what is reserved does not count"
SETTLED_TWICE = "a second settlement counts again"
LAPSE_FREES = "a hold that lapses is given back"
LATE_SETTLE = "a late settlement is added to the provisional charge"
RELEASE_KEEPS = "a provisional charge that is released stays charged"
ANY_FINGERPRINT = "another call of the same id is taken for the same"
ALERT_AGAIN = "an alert fires again and again"
REFUSAL_STAYS = "a refused hold stays reserved"
OFF_BY_ONE = "a limit is one too high, or one too low"
REVIVED = "a heartbeat revives a hold that has lapsed"

MEMORY = (
    mutant(
        RESERVED_IGNORED,
        "memory",
        "memory",
        ("balance[0] + balance[3] + charge[0] <= pico", "balance[0] + charge[0] <= pico"),
    ),
    mutant(
        SETTLED_TWICE,
        "memory",
        "memory",
        ("if not amend and not record.flags & LAPSED:", "if False:"),
    ),
    mutant(
        LAPSE_FREES,
        "memory",
        "memory",
        ("books.book(facts, held.payers, held, LAPSED)", "books.unhold(held)"),
    ),
    mutant(
        LATE_SETTLE,
        "memory",
        "books",
        (
            "self._move_spent(payers, timestamp_us, less(charge, old_charge))",
            "self._move_spent(payers, timestamp_us, charge)",
        ),
    ),
    mutant(
        RELEASE_KEEPS,
        "memory",
        "books",
        (
            "self._move_spent(record.payers, record.timestamp_us, less(NOTHING, charge))",
            "pass",
        ),
    ),
    mutant(
        ANY_FINGERPRINT,
        "memory",
        "memory",
        ("if held.charge != charge or set(held.hold.owners) != set(hold.owners):", "if False:"),
    ),
    mutant(
        ALERT_AGAIN, "memory", "memory", ("if watch.key not in self._latches:", "if watch.key:")
    ),
    mutant(
        REFUSAL_STAYS,
        "memory",
        "memory",
        (
            "            if refused is not None:\n                return refused",
            "            if refused is not None:\n"
            "                code = books.payers_code(hold.owners)\n"
            "                until = now_us + lease\n"
            "                books.hold(Held(hold, timestamp_us, charge, code, until))\n"
            "                return refused",
        ),
    ),
    mutant(
        OFF_BY_ONE,
        "memory",
        "memory",
        (
            "balance[0] + balance[3] + charge[0] <= pico",
            "balance[0] + balance[3] + charge[0] <= pico + 1",
        ),
    ),
    mutant(REVIVED, "memory", "memory", (" and held.lease_until_us > now_us:", ":")),
)

SQLITE = (
    mutant(
        RESERVED_IGNORED,
        "sqlite",
        "rows",
        ("balance.spent_pico + balance.reserved_pico,", "balance.spent_pico,"),
    ),
    mutant(SETTLED_TWICE, "sqlite", "steps", ("if not amend and not known[-1]:", "if False:")),
    mutant(
        LAPSE_FREES,
        "sqlite",
        "steps",
        (
            "self._book(facts, held[TIMESTAMP], held[PAYERS], charge_from(held), is_lapsed=True)",
            "gone = _less(NOTHING, charge_from(held))\n"
            "            self._move(held[PAYERS], held[TIMESTAMP], NOTHING, gone)",
        ),
    ),
    mutant(
        LATE_SETTLE,
        "sqlite",
        "steps",
        ("timestamp_us, _less(facts.charge, charge_from(known)))", "timestamp_us, facts.charge)"),
    ),
    mutant(
        RELEASE_KEEPS,
        "sqlite",
        "steps",
        (
            "self._move(known[PAYERS], known[TIMESTAMP], _less(NOTHING, charge_from(known)))",
            "pass",
        ),
    ),
    mutant(
        ANY_FINGERPRINT,
        "sqlite",
        "steps",
        (
            "if tuple(charge) != facts.charge or payers_id != self._payers_id(hold.owners):",
            "if False:",
        ),
    ),
    Mutant(
        ALERT_AGAIN,
        "sqlite",
        (
            Change("steps", " or self._run(FIND_ALERT, (key,)).fetchone():", ":"),
            Change("statements", "INSERT INTO alert VALUES", "INSERT OR REPLACE INTO alert VALUES"),
        ),
    ),
    mutant(
        REFUSAL_STAYS,
        "sqlite",
        "steps",
        (
            "            if refused is not None:\n                return refused",
            "            if refused is not None:\n"
            "                code = self._payers_id(hold.owners)\n"
            "                self._move(code, facts.timestamp_us, NOTHING, facts.charge)\n"
            "                return refused",
        ),
    ),
    mutant(OFF_BY_ONE, "sqlite", "rows", ("now + more > most:", "now + more > most + 1:")),
    mutant(
        REVIVED,
        "sqlite",
        "statements",
        (
            "SET lease_until_us = ? WHERE process = ? AND lease_until_us > ?",
            "SET lease_until_us = ? WHERE process = ? AND lease_until_us > ? - 1000000000000",
        ),
    ),
    mutant(
        "a step reads before it may write",
        "sqlite",
        "database",
        (
            'connection.execute("BEGIN IMMEDIATE")\n                (version',
            'connection.execute("BEGIN")\n                (version',
        ),
        found_by="test_sqlite_processes.py::"
        "test_step_sees_what_a_foreign_writer_commits_while_it_waits",
    ),
)

POSTGRES = (
    mutant(
        RESERVED_IGNORED,
        "postgres",
        "postgres_steps",
        (
            "IF CAST(b.spent_pico AS numeric) + b.reserved_pico + pico",
            "IF CAST(b.spent_pico AS numeric) + pico",
        ),
    ),
    mutant(
        SETTLED_TWICE,
        "postgres",
        "postgres_steps",
        ("IF known.is_lapsed = 0 AND NOT CAST(p->>'amend' AS boolean) THEN", "IF false THEN"),
    ),
    mutant(
        LAPSE_FREES,
        "postgres",
        "postgres_upkeep",
        ("SET spent_pico = b.spent_pico + s.pico,", "SET spent_pico = b.spent_pico,"),
    ),
    mutant(
        LATE_SETTLE,
        "postgres",
        "postgres_steps",
        ("coalesce(c.cost_pico, 0) - coalesce(was.cost_pico, 0),", "coalesce(c.cost_pico, 0),"),
    ),
    mutant(
        RELEASE_KEEPS,
        "postgres",
        "postgres_steps",
        ('done = move(who, known.timestamp_us, {_given_back("was")}, 0, 0, 0);', ""),
    ),
    mutant(
        ANY_FINGERPRINT,
        "postgres",
        "postgres_steps",
        ("IF coalesce(known.cost_pico, 0) = pico AND", "IF true OR pico IS NULL AND"),
    ),
    mutant(
        ALERT_AGAIN,
        "postgres",
        "postgres_steps",
        ("WHERE NOT EXISTS (SELECT 1 FROM alert WHERE digest = CAST(w->>6 AS uuid))", ""),
        ("      IF FOUND THEN\n        crossed", "      IF true THEN\n        crossed"),
    ),
    mutant(
        REFUSAL_STAYS,
        "postgres",
        "postgres_steps",
        (
            "      RETURN jsonb_build_array('refused'",
            "      PERFORM move(who.owner_ids, c.timestamp_us, 0, 0, 0, pico, tokens, calls);\n"
            "      RETURN jsonb_build_array('refused'",
        ),
    ),
    mutant(
        OFF_BY_ONE,
        "postgres",
        "postgres_steps",
        ("+ pico > CAST(lim->>5 AS numeric)", "+ pico >= CAST(lim->>5 AS numeric)"),
    ),
    mutant(
        REVIVED,
        "postgres",
        "postgres_upkeep",
        (
            "WHERE process = p->>'process' AND lease_until_us > now;",
            "WHERE process = p->>'process';",
        ),
    ),
    mutant(
        "balances are locked in any order",
        "postgres",
        "postgres_functions",
        (
            "start_us <= p_at AND end_us > p_at\n"
            "          ORDER BY owner_id, start_us, end_us FOR UPDATE",
            "start_us <= p_at AND end_us > p_at\n          ORDER BY random() FOR UPDATE",
        ),
        (
            "unnest(p_spans.owner_ids, p_spans.starts, p_spans.ends)))\n"
            "          ORDER BY owner_id, start_us, end_us FOR UPDATE",
            "unnest(p_spans.owner_ids, p_spans.starts, p_spans.ends)))\n"
            "          ORDER BY random() FOR UPDATE",
        ),
        found_by="test_processes.py::test_nested_budgets_never_wait_in_a_circle[postgres]",
    ),
    mutant(
        "the time is that of the transaction's start",
        "postgres",
        "postgres_functions",
        ("FROM clock_timestamp()", "FROM now()"),
        found_by="test_dbapi_store.py::test_step_that_waited_beyond_its_time_is_undone",
    ),
)

REDIS = (
    mutant(
        RESERVED_IGNORED,
        "redis",
        "redis_scripts",
        (
            "add(add(balance[unit], balance[unit + 3]), charge[unit])",
            "add(balance[unit], charge[unit])",
        ),
    ),
    mutant(
        SETTLED_TWICE,
        "redis",
        "redis_scripts",
        ("if old.lapsed == '0' and not p.amend then", "if false then"),
    ),
    mutant(
        LAPSE_FREES,
        "redis",
        "redis_sums",
        (
            "move(row.payers, row, charge, negative(charge))",
            "move(row.payers, row, NONE, negative(charge))",
        ),
    ),
    mutant(
        LATE_SETTLE,
        "redis",
        "redis_scripts",
        (
            "move(row.payers, row, difference(charge_of(row), charge_of(old)), NONE)",
            "move(row.payers, row, charge_of(row), NONE)",
        ),
    ),
    mutant(
        RELEASE_KEEPS,
        "redis",
        "redis_scripts",
        ("move(row.payers, row, negative(charge_of(row)), NONE)", ""),
    ),
    mutant(
        ANY_FINGERPRINT,
        "redis",
        "redis_scripts",
        ("if is_zero(difference(charge, other)) and read(", "if true or read("),
    ),
    mutant(
        ALERT_AGAIN,
        "redis",
        "redis_scripts",
        ("if not read('alert', watch.digest) then", "if true then"),
    ),
    mutant(
        REFUSAL_STAYS,
        "redis",
        "redis_scripts",
        (
            "      return finish('refused'",
            "      move(payers_of(p.payers, p.owners), row, NONE, charge)\n"
            "      return finish('refused'",
        ),
    ),
    mutant(
        OFF_BY_ONE,
        "redis",
        "redis_scripts",
        (
            "less(most, add(add(balance[unit], balance[unit + 3]), charge[unit]))",
            "not less(add(add(balance[unit], balance[unit + 3]), charge[unit]), most)",
        ),
    ),
    mutant(
        REVIVED,
        "redis",
        "redis_scripts",
        ("if lease and tonumber(lease) > now then", "if lease then"),
    ),
    mutant(
        "amounts are compared as floating point",
        "redis",
        "redis_words",
        (
            "  if x < EXACT and x > -EXACT then return false end\n  local ah, al = halves(a)\n"
            "  local bh, bl = halves(b)\n  local high",
            "  if true then return false end\n  local ah, al = halves(a)\n"
            "  local bh, bl = halves(b)\n  local high",
        ),
        found_by="test_redis_store.py::test_decisions_above_what_a_float_holds_are_exact",
    ),
    mutant(
        "what is written has a time to live",
        "redis",
        "redis_words",
        (
            "    put('meta')\n  end",
            "    put('meta')\n    redis.call('EXPIRE', key('meta'), 60)\n  end",
        ),
        found_by="test_redis_store.py::test_nothing_ever_expires",
    ),
)

MUTANTS = (*MEMORY, *SQLITE, *POSTGRES, *REDIS)
