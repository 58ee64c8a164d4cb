"""Which endpoint a path belongs to, on the providers' own hosts and on the clouds'."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from costtrace.testing import anthropic_batches, anthropic_messages, clouds
from costtrace.testing import openai_chat as chat
from costtrace.testing import openai_media as media
from costtrace.testing import openai_responses as responses
from costtrace.testing import openai_single as single
from costtrace.testing import openai_stored as stored
from costtrace.testing.answer import Answer, Call
from costtrace.testing.log import Received

Endpoint = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint; `{name}` in its path stands for one segment."""

    method: str
    path: str
    endpoint: Endpoint
    is_model_call: bool = False
    provider: str = "openai"
    pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+?)", self.path)
        object.__setattr__(self, "pattern", re.compile(pattern))


def _get(path: str, endpoint: Endpoint, provider: str = "openai") -> Route:
    return Route("GET", path, endpoint, provider=provider)


def _free(path: str, endpoint: Endpoint, provider: str = "openai") -> Route:
    return Route("POST", path, endpoint, provider=provider)


def _model(path: str, endpoint: Endpoint, provider: str = "openai") -> Route:
    return Route("POST", path, endpoint, is_model_call=True, provider=provider)


_OPENAI = (
    _model("/chat/completions", chat.complete_chat),
    _model("/responses", responses.create),
    _model("/completions", chat.complete_text),
    _model("/embeddings", single.embed),
    _model("/responses/compact", responses.compact),
    _free("/responses/input_tokens", responses.count_input_tokens),
    _get("/responses/{id}", responses.retrieve),
    _free("/responses/{id}/cancel", responses.cancel),
    _free("/moderations", single.moderate),
    _model("/decisions", single.decide),
    _model("/images/generations", media.generate_image),
    _model("/images/edits", media.edit_image),
    _model("/images/variations", media.vary_image),
    _model("/audio/speech", media.speak),
    _model("/audio/transcriptions", media.transcribe),
    _model("/audio/translations", media.translate),
    _model("/videos", media.create_video),
    _model("/videos/(?:edits|extensions)", media.create_video),
    _model("/videos/{id}/remix", media.create_video),
    _get("/videos/{id}", media.retrieve_video),
    _get("/videos/{id}/content", media.video_content),
    _free("/files", stored.create_file),
    _get("/files/{id}", stored.retrieve_file),
    _get("/files/{id}/content", stored.file_content),
    _free("/batches", stored.create_batch),
    _get("/batches/{id}", stored.retrieve_batch),
    _free("/assistants", stored.create_thread),
    _free("/threads", stored.create_thread),
    _free("/threads/{thread}/messages", stored.create_thread),
    _model("/threads/runs", stored.create_run),
    _model("/threads/{thread}/runs", stored.create_run),
    _model("/threads/{thread}/runs/{id}/submit_tool_outputs", stored.create_run),
    _get("/threads/{thread}/runs/{id}", stored.retrieve_run),
    _get("/models", single.list_models),
    _get("/models/{id}", single.retrieve_model),
)
_VERTEX = r"/projects/[^/]+/locations/[^/]+/publishers/anthropic/models/{model}"
_ANTHROPIC = (
    _model("/messages", anthropic_messages.create, "anthropic"),
    _free("/messages/count_tokens", anthropic_messages.count_tokens, "anthropic"),
    _free("/messages/batches", anthropic_batches.create_batch, "anthropic"),
    _get("/messages/batches/{id}", anthropic_batches.retrieve_batch, "anthropic"),
    _get("/messages/batches/{id}/results", anthropic_batches.batch_results, "anthropic"),
    _model("/complete", anthropic_batches.complete_text, "anthropic"),
    _model("/model/(?P<model>.+)/invoke", clouds.invoke, "anthropic"),
    _model("/model/(?P<model>.+)/invoke-with-response-stream", clouds.invoke_streamed, "anthropic"),
    _free("/projects/.+/models/count-tokens:rawPredict", clouds.predict_count, "anthropic"),
    _model(_VERTEX + ":rawPredict", clouds.predict, "anthropic"),
    _model(_VERTEX + ":streamRawPredict", clouds.predict_streamed, "anthropic"),
)
ROUTES = (*_OPENAI, *_ANTHROPIC)
# What stands before the path: Azure's deployments, Foundry's and Bedrock's roots, the version.
_PREFIX = re.compile(r"^(?:/anthropic|/openai)?(?:/v1)?(?:/deployments/(?P<model>[^/]+))?(?=/)")


def find_route(received: Received) -> tuple[Route, Mapping[str, str]] | None:
    """The route of a request and what its path names."""
    path = received.path
    prefix = _PREFIX.match(path)
    values = {} if prefix is None else {k: v for k, v in prefix.groupdict().items() if v}
    rest = path if prefix is None else path[prefix.end() :]
    for route in ROUTES:
        if route.method == received.method and (found := route.pattern.fullmatch(rest)):
            return route, {**values, **found.groupdict()}
    return None
