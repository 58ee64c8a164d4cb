"""Model names: which listed model a name means, and by which rule. Never a guess.

A name is a listed one, or one of a few published spellings of it. A name that only begins like a
listed one is another model and stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import NamedTuple

_BEDROCK = re.compile(
    r"(?:(?P<geography>[a-z]+(?:-gov)?)\.)?anthropic\.(?P<name>claude[a-z0-9.-]*?)(?:-v\d+(?::\d+)?)?"
)
_BEDROCK_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):bedrock:[a-z0-9-]*:\d*:"
    r"(?:foundation-model|inference-profile)/(?P<id>.+)"
)
_BEDROCK_GEOGRAPHIES = frozenset({"", "global", "us", "eu", "apac", "au", "jp", "us-gov"})
_VERTEX = re.compile(r"(?P<name>claude[a-z0-9-]*?)(?:-v\d+)?@(?P<version>\d{8}|default)")
_VERTEX_PATHS = ("vertex_ai/", "publishers/anthropic/models/")
_GATEWAYS = ("openai/", "anthropic/")
_DATED = re.compile(r"(?P<base>.+?)-(?P<date>\d{4}-\d{2}-\d{2}|\d{8}|\d{4})")
_ASSUMING = frozenset({"snapshot"})


class Resolution(NamedTuple):
    """The model that a name means."""

    model: str
    """The id of the listed model."""
    rule: str
    """What matched: `` for the id itself, else `alias`, `snapshot`, `bedrock+alias` ..."""
    place: str = ""
    """The cloud and geography in the name, as in `bedrock:us`; `` for the provider's own API."""

    @property
    def is_assumed(self) -> bool:
        """True where the rule rests on more than a published name."""
        return not _ASSUMING.isdisjoint(self.rule.split("+"))


Known = Callable[[str], Resolution | None]
"""Looks a name up as it is written."""
Snapshots = Callable[[str], bool]
"""Tells whether all known snapshots of a base name have one price."""


def resolve(name: str, known: Known, have_one_price: Snapshots) -> Resolution | None:
    """Return the model that `name` means, or None."""
    trimmed = name.strip()
    found = known(name) or _resolve_spelled(trimmed, known, have_one_price)
    if found is None and trimmed != trimmed.lower():
        found = _under("case", _resolve_spelled(trimmed.lower(), known, have_one_price))
    return found


@lru_cache(maxsize=1024)
def place_of(name: str) -> str:
    """Return the cloud and geography that a Bedrock or Vertex name states, else ``.

    A Bedrock answer names the plain model, so the place has to be taken from the name requested.

    >>> place_of("us.anthropic.claude-sonnet-4-5-20250929-v1:0"), place_of("claude-sonnet-4-5")
    ('bedrock:us', '')
    """
    spelled = name.strip().lower()
    bedrock = _bedrock_parts(spelled)
    if bedrock is not None:
        return bedrock[0]
    is_vertex = spelled.startswith(_VERTEX_PATHS) or _VERTEX.fullmatch(spelled)
    return "vertex:" if is_vertex else ""


def base_of(name: str) -> str | None:
    """Return what a dated name is a snapshot of; None for a name without a date.

    >>> base_of("gpt-4o-2024-08-06"), base_of("gpt-4-0613"), base_of("gpt-4o")
    ('gpt-4o', 'gpt-4', None)
    """
    dated = _DATED.fullmatch(name)
    return dated["base"] if dated and _is_date(dated["date"]) else None


def _resolve_spelled(name: str, known: Known, have_one_price: Snapshots) -> Resolution | None:
    if name.endswith("[1m]"):  # a client's mark for its own context setting
        return _under("suffix", _resolve_spelled(name[:-4], known, have_one_price))
    if name.startswith("ft:"):
        return _under("fine-tuned", known("ft:" + name.split(":")[1]))
    bedrock = _bedrock_parts(name)
    if bedrock is not None:
        place, inner = bedrock
        return _under("bedrock", _resolve_plain(inner, known, have_one_price), place)
    vertex = _vertex_name(name)
    if vertex is not None:
        return _under("vertex", _resolve_plain(vertex, known, have_one_price), "vertex:")
    gateway = _gateway_name(name)
    if gateway is not None:
        return _under("gateway", _resolve_plain(gateway, known, have_one_price))
    return _resolve_plain(name, known, have_one_price)


def _resolve_plain(name: str, known: Known, have_one_price: Snapshots) -> Resolution | None:
    found = known(name)
    dated = _DATED.fullmatch(name)
    if found is not None or dated is None or not _is_date(dated["date"]):
        return found
    base, stamp = dated["base"], dated["date"]
    found = known(f"{base}-{_other_form(stamp)}")
    if found is not None:
        return _under("date", found)
    if base_of(base) is not None or not have_one_price(base):
        return None
    return _under("snapshot", known(base))


def _under(rule: str, found: Resolution | None, place: str = "") -> Resolution | None:
    if found is None:
        return None
    rules = f"{rule}+{found.rule}" if found.rule else rule
    return Resolution(found.model, rules, place or found.place)


def _bedrock_parts(name: str) -> tuple[str, str] | None:
    name = name.removeprefix("bedrock/")
    arn = _BEDROCK_ARN.fullmatch(name)
    matched = _BEDROCK.fullmatch(arn["id"] if arn else name)
    if matched is None:
        return None
    geography = matched["geography"] or ""
    if arn and arn["partition"] == "aws-us-gov":
        geography = "us-gov"
    if geography not in _BEDROCK_GEOGRAPHIES:
        return None
    return f"bedrock:{geography}", matched["name"]


def _vertex_name(name: str) -> str | None:
    path = next((path for path in _VERTEX_PATHS if name.startswith(path)), "")
    matched = _VERTEX.fullmatch(name.removeprefix(path))
    if matched is None:
        return name.removeprefix(path) if path else None
    if matched["version"] == "default":
        return matched["name"]
    return f"{matched['name']}-{matched['version']}"


def _gateway_name(name: str) -> str | None:
    name = name.removeprefix("openrouter/")
    vendor = next((vendor for vendor in _GATEWAYS if name.startswith(vendor)), None)
    if vendor is None:
        return None
    inner = name.removeprefix(vendor)
    return inner.replace(".", "-") if vendor == "anthropic/" else inner


def _other_form(stamp: str) -> str:
    if len(stamp) == 8:
        return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:]}"
    return stamp.replace("-", "")


def _is_date(stamp: str) -> bool:
    digits = stamp.replace("-", "")
    try:
        day = date(int(digits[:-4] or 2024), int(digits[-4:-2]), int(digits[-2:]))
    except ValueError:
        return False
    return 2020 <= day.year < 2100
