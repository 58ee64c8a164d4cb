"""A WSGI application that gunicorn loads once and then forks: the ledger is its parent's.

A thread of the parent writes into the ledger all the time, so that forks come amid its steps.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from openai import OpenAI

from costtrace import CostLedger, SQLiteStore, budget

ASK: list[Any] = [{"role": "user", "content": "hi"}]

ledger = CostLedger(store=SQLiteStore(os.environ["LEDGER"], timeout_s=30))
of_parent = budget("parent", 100, ledger=ledger)
clients = threading.local()


def client() -> OpenAI:
    """One for each thread, and so for each worker: connections are not to be shared."""
    if not hasattr(clients, "openai"):
        clients.openai = OpenAI(max_retries=0)
    return clients.openai


def ask(*, is_streamed: bool) -> None:
    options: dict[str, Any] = {"model": "gpt-4o-mini", "messages": ASK, "max_tokens": 20}
    if is_streamed:
        for _ in client().chat.completions.create(stream=True, **options):
            pass
    else:
        client().chat.completions.create(**options)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Make a call, streamed or not, under the budget of the user that the path names."""
    with budget(environ["PATH_INFO"].strip("/"), 100, window="day", ledger=ledger):
        ask(is_streamed=bool(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def write_on() -> None:
    """Record calls of the parent's for as long as it lives; note how many on the way."""
    while True:
        of_parent.record("0.01")
        with open(os.environ["RECORDED"], "ab") as recorded:
            recorded.write(b".")
        time.sleep(0.002)


with budget("warm-up", 100, ledger=ledger):
    for is_streamed in (False, True):
        ask(is_streamed=is_streamed)
clients.openai.close()
del clients.openai
held = of_parent.authorize("0.25")
threading.Thread(target=write_on, daemon=True).start()
