"""A budget opened in middleware reaches endpoints of every kind, background tasks and streams."""

from __future__ import annotations

import asyncio

import pytest
from scope_words import as_user, in_function, path, who

fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")
from fastapi import BackgroundTasks, Depends, FastAPI  # noqa: E402
from fastapi.responses import StreamingResponse  # noqa: E402
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: E402


def based_on_http(app):
    """Middleware that runs the application in a task of its own."""

    async def dispatch(request, call_next):
        with as_user(request.headers["user"]):
            return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)


def pure_asgi(app):
    """Middleware that awaits the application."""

    class Middleware:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            if scope["type"] != "http":
                return await self.app(scope, receive, send)
            with as_user(dict(scope["headers"])[b"user"].decode()):
                return await self.app(scope, receive, send)

    app.add_middleware(Middleware)


def an_application(background):
    """One endpoint of each kind; each answers who it is for."""
    app = FastAPI()

    @app.get("/async")
    async def in_loop():
        await asyncio.sleep(0)
        return who()

    @app.get("/sync")
    def in_worker():
        with in_function("f"):
            return f"{who()}:{path()[-1]}"

    @app.get("/background")
    async def with_background(tasks: BackgroundTasks):
        def sync_task(user):
            background.append((user, who()))

        async def async_task(user):
            await asyncio.sleep(0)
            background.append((user, who()))

        tasks.add_task(sync_task, who())
        tasks.add_task(async_task, who())
        return who()

    @app.get("/stream")
    async def stream():
        async def body():
            for _ in range(3):
                await asyncio.sleep(0)
                yield f"{who()} "

        return StreamingResponse(body())

    @app.get("/syncstream")
    def sync_stream():
        return StreamingResponse(f"{who()} " for _ in range(3))

    def a_dependency():
        yield who()

    async def an_async_dependency():
        with in_function("dependency"):
            yield who()

    @app.get("/dependency")
    def dependent(first=Depends(a_dependency), second=Depends(an_async_dependency)):  # noqa: B008
        return f"{first} {second} {who()} {path()[-1]}"

    return app


EXPECTED = {
    "/async": '"{0}"',
    "/sync": '"{0}:f"',
    "/background": '"{0}"',
    "/stream": "{0} {0} {0} ",
    "/syncstream": "{0} {0} {0} ",
    "/dependency": '"{0} {0} {0} dependency"',
}


@pytest.mark.parametrize("add_middleware", [based_on_http, pure_asgi])
def test_many_users_at_once(add_middleware):
    """Fifty users ask every endpoint at the same time, and each gets its own."""
    background = []
    app = an_application(background)
    add_middleware(app)

    async def main():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:

            async def ask(user, place):
                answer = await client.get(place, headers={"user": user})
                return answer.status_code, answer.text, EXPECTED[place].format(user)

            users = [f"u{number}" for number in range(50)]
            return await asyncio.gather(*(ask(user, at) for at in EXPECTED for user in users))

    answers = asyncio.run(main())
    assert len(answers) == 300
    assert [answer for answer in answers if answer[:2] != (200, answer[2])] == []
    assert len(background) == 100
    assert [pair for pair in background if pair[0] != pair[1]] == []


def test_workers_are_clean_after_requests():
    """A request of nobody, after those of many users, is nobody's."""
    app = an_application([])

    class Sometimes:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            user = dict(scope["headers"]).get(b"user")
            if user is None:
                return await self.app(scope, receive, send)
            with as_user(user.decode()):
                return await self.app(scope, receive, send)

    app.add_middleware(Sometimes)

    async def main():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:

            async def ask(user):
                headers = {"user": user} if user else {}
                return user, (await client.get("/sync", headers=headers)).text

            users = [f"u{n}" if n % 2 else None for n in range(100)]
            return await asyncio.gather(*(ask(user) for user in users))

    wrong = [a for a in asyncio.run(main()) if a[1] != (f'"{a[0]}:f"' if a[0] else '"anon:f"')]
    assert wrong == []
