"""OpenAI's endpoints: which are billed, which are free, and which tell of earlier work."""

from __future__ import annotations

import re

from costtrace.providers.base import Retrieval

PROVIDER = "openai"
BILLED = {  # path of a POST -> operation
    "/chat/completions": "chat",
    "/completions": "completions",
    "/responses": "responses",
    "/responses/compact": "compact",
    "/embeddings": "embeddings",
    "/images/generations": "images",
    "/images/edits": "images",
    "/images/variations": "images",
    "/audio/speech": "speech",
    "/audio/transcriptions": "transcriptions",
    "/audio/translations": "translations",
    "/decisions": "decisions",
    "/videos": "videos",
    "/videos/edits": "videos",
    "/videos/extensions": "videos",
    "/threads/runs": "runs",
}
BILLED_WITH_ID = (
    (re.compile(r"/videos/[^/]+/remix"), "videos"),
    (re.compile(r"/threads/[^/]+/runs(/[^/]+/submit_tool_outputs)?"), "runs"),
)
UNCOVERED = (
    re.compile(r"/fine_tuning/jobs(/[^/]+/resume)?"),
    re.compile(r"/fine_tuning/alpha/graders/run"),
    re.compile(r"/evals/[^/]+/runs"),
    re.compile(r"/agents/sessions(/[^/]+/events)?"),
    re.compile(r"/agents/automations/[^/]+/invocations"),
    re.compile(r"/vector_stores/[^/]+/search"),
    re.compile(r"/containers"),
    re.compile(r"/chatkit/sessions"),
    re.compile(r"/realtime/calls(/[^/]+/accept)?"),
    re.compile(r"/live/sessions(/[^/]+/(accept|fork))?"),
)
FREE = re.compile(  # what these begin with, and no pattern above, is storage or administration
    r"/(agents|assistants|audio/voice\w*|batches|chat/completions/[^/]+|chatkit|containers"
    r"|content_provenance_checks|conversations|evals|files|fine_tuning|live|models|moderations"
    r"|organization|projects|realtime|responses/[^/]+(/cancel)?|skills|threads|uploads|vaults"
    r"|vector_stores|videos/characters|webhook_endpoints)(/.*)?"
)
_GET = (
    (re.compile(r"/responses/(?P<id>[^/]+)"), "responses"),
    (re.compile(r"/threads/[^/]+/runs/(?P<id>[^/]+)"), "runs"),
)
_FILE = re.compile(r"/files/(?P<id>[^/]+)/content")
_POST = (
    (re.compile(r"/responses/(?P<id>[^/]+)/cancel"), "responses"),
    (re.compile(r"/threads/[^/]+/runs/(?P<id>[^/]+)/cancel"), "runs"),
)
_SUBMIT = re.compile(r"/threads/[^/]+/runs/(?P<id>[^/]+)/submit_tool_outputs")


def operation_of(path: str) -> str:
    """Return the operation that a POST is billed as; `free` or `uncovered` where it is none."""
    if operation := BILLED.get(path):
        return operation
    for pattern, name in BILLED_WITH_ID:
        if pattern.fullmatch(path):
            return name
    if any(pattern.fullmatch(path) for pattern in UNCOVERED):
        return "uncovered"
    return "free" if FREE.fullmatch(path) else "uncovered"


def retrieval_of(method: str, path: str) -> Retrieval | None:
    """Return whose usage the answer of a request may tell."""
    for pattern, operation in _GET if method == "get" else _POST:
        if found := pattern.fullmatch(path):
            return Retrieval(provider=PROVIDER, operation=operation, key=found["id"])
    if method == "get" and (found := _FILE.fullmatch(path)):
        return Retrieval(provider=PROVIDER, operation="", key=found["id"], is_batch=True)
    if method == "post" and (found := _SUBMIT.fullmatch(path)):
        return Retrieval(provider=PROVIDER, operation="runs", key=found["id"], is_continued=True)
    return None
