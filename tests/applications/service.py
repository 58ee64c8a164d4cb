"""A FastAPI application whose middleware opens each user's budget; for uvicorn and gunicorn.

The environment says which provider it talks to and in which ledger it keeps its books.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from anthropic import Anthropic, AsyncAnthropic
from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI, OpenAI

from costtrace import CostLedger, SQLiteStore, budget, tracked

ASK: list[Any] = [{"role": "user", "content": "hi"}]
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # patient: eight that write at once on a loaded machine may keep each other waiting
    app.state.ledger = CostLedger(store=SQLiteStore(os.environ["LEDGER"], timeout_s=60))
    app.state.sync = (OpenAI(max_retries=0), Anthropic(max_retries=0))
    async with AsyncOpenAI(max_retries=0) as openai, AsyncAnthropic(max_retries=0) as anthropic:
        app.state.asynchronous = (openai, anthropic)
        yield
    for client in app.state.sync:
        client.close()
    app.state.ledger.close()


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def charge(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Open the budget of the user that the request's header names."""
    with budget(request.headers["x-user"], 100, window="day", ledger=app.state.ledger):
        return await go_on(request)


@app.get("/sync")
def sync() -> dict[str, str]:
    return {"said": ask_both()}


@app.get("/async")
async def asynchronous() -> dict[str, str]:
    return {"said": await ask_both_async()}


@app.get("/background")
async def background(tasks: BackgroundTasks) -> dict[str, str]:
    tasks.add_task(ask_later)
    return {"said": "later"}


@app.get("/stream")
def stream() -> StreamingResponse:
    return StreamingResponse(spoken(), media_type="text/plain")


@tracked(function_name="ask_both")
def ask_both() -> str:
    openai, anthropic = app.state.sync
    openai.chat.completions.create(model=MODELS["openai"], messages=ASK, max_tokens=20)
    anthropic.messages.create(model=MODELS["anthropic"], messages=ASK, max_tokens=20)
    return "done"


@tracked(function_name="ask_both_async")
async def ask_both_async() -> str:
    openai, anthropic = app.state.asynchronous
    await openai.chat.completions.create(model=MODELS["openai"], messages=ASK, max_tokens=20)
    await anthropic.messages.create(model=MODELS["anthropic"], messages=ASK, max_tokens=20)
    return "done"


@tracked(function_name="ask_later")
def ask_later() -> None:
    openai, _ = app.state.sync
    openai.embeddings.create(model="text-embedding-3-small", input="hi")


@tracked(function_name="spoken")
def spoken() -> Iterator[str]:
    openai, _ = app.state.sync
    chunks = openai.chat.completions.create(
        model=MODELS["openai"], messages=ASK, max_tokens=20, stream=True
    )
    for chunk in chunks:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content
