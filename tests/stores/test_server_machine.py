"""Random steps on the stores that have a server, compared with a model after each of them."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from servers import PostgresServer, RedisServer, postgres, redis_server  # noqa: F401
from store_model import StoreMachine

from costtrace.stores import DBAPIStore, RedisStore

pytestmark = pytest.mark.slow

SETTINGS = settings(
    max_examples=int(os.environ.get("COSTTRACE_TEST_EXAMPLES", "15")),
    stateful_step_count=25,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_dbapi_store_does_what_the_model_does(postgres: PostgresServer) -> None:  # noqa: F811
    """Whatever happens in whatever order, every answer and balance is the model's."""

    class Machine(StoreMachine):
        @staticmethod
        def open_store() -> DBAPIStore:
            postgres.empty("costtrace")
            return DBAPIStore(postgres.connect, timeout_s=30)

    run_state_machine_as_test(Machine, settings=SETTINGS)


def test_redis_store_does_what_the_model_does(redis_server: RedisServer) -> None:  # noqa: F811
    """Whatever happens in whatever order, every answer and balance is the model's."""
    with redis_server.client() as client:

        class Machine(StoreMachine):
            @staticmethod
            def open_store() -> RedisStore:
                client.flushall()
                return RedisStore(client, timeout_s=30)

        run_state_machine_as_test(Machine, settings=SETTINGS)
