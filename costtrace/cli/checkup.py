"""What `costtrace doctor` looks at. It sends nothing, and tells no key."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from costtrace import __version__
from costtrace.accounting import CostLedger
from costtrace.accounting.retention import days_in
from costtrace.accounting.spool import waiting_spools
from costtrace.accounting.spool_folder import place_of
from costtrace.cli.ledger_files import existing_ledger
from costtrace.cli.output import days_old
from costtrace.exceptions import CosttraceError
from costtrace.instrumentation import instrument, is_active, is_disabled, uninstrument
from costtrace.instrumentation.patch import PatchedModule
from costtrace.instrumentation.seams import PATCHED
from costtrace.money import format_usd, to_pico, to_usd
from costtrace.pricing import PriceTable
from costtrace.pricing.table import STALE_AFTER_DAYS
from costtrace.reports.section import counted
from costtrace.stores.base import ALWAYS, LEDGER
from costtrace.stores.schema import MIGRATIONS
from costtrace.stores.sqlite import file_identity
from costtrace.tokens import tokenizers

_TOPIC = "Taking part in calls"
OK, NOTE, PROBLEM = "ok", "note", "problem"
PACKAGES = ("openai", "anthropic", "wrapt", "tiktoken")
INSTRUMENTORS = {  # module -> what it is known as; each of them wraps the SDKs' methods too
    "langfuse": "Langfuse",
    "traceloop": "OpenLLMetry (traceloop)",
    "opentelemetry.instrumentation.openai": "OpenTelemetry for OpenAI",
    "opentelemetry.instrumentation.openai_v2": "OpenTelemetry for OpenAI (v2)",
    "opentelemetry.instrumentation.anthropic": "OpenTelemetry for Anthropic",
    "openinference.instrumentation.openai": "OpenInference for OpenAI",
    "openinference.instrumentation.anthropic": "OpenInference for Anthropic",
    "logfire": "Logfire",
    "langsmith": "LangSmith",
    "agentops": "AgentOps",
    "mlflow": "MLflow",
    "weave": "Weave",
    "opik": "Opik",
    "braintrust": "Braintrust",
    "helicone": "Helicone",
    "ddtrace": "Datadog",
    "newrelic": "New Relic",
    "sentry_sdk": "Sentry",
    "litellm": "LiteLLM",
    "shekel": "shekel",
    "agentbudget": "agentbudget",
}
VALUES = (  # variables whose values are paths, amounts or switches
    "COSTTRACE_DB",
    "COSTTRACE_BUDGET_USD",
    "COSTTRACE_PRICES",
    "COSTTRACE_KEEP_DAYS",
    "COSTTRACE_SPOOL",
    "COSTTRACE_DISABLED",
    "TIKTOKEN_CACHE_DIR",
    "DATA_GYM_CACHE_DIR",
)
SECRETS = (
    "COSTTRACE_SECRET",
    "OPENAI_API_KEY",
    "OPENAI_ADMIN_KEY",
    "OPENAI_BASE_URL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
)
"""Variables of which only is told whether they are set: an address may hold a password."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    name: str
    text: str
    verdict: str = OK


def check_machine() -> Iterator[Finding]:
    """Yield what was found out about this machine and this Python."""
    yield Finding("Versions", "costtrace", __version__)
    yield Finding("Versions", "python", f"{platform.python_version()} on {platform.system()}")
    for package in PACKAGES:
        yield Finding("Versions", package, _version(package))
    for patched in PATCHED:
        yield from _check_patches(patched)
    yield from _check_instrumentors()
    yield from _check_prices()
    yield _check_tokenizers()
    yield from _check_environment()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed" if find_spec(package) is None else "of unknown version"


# The SDKs


def _check_patches(patched: PatchedModule) -> Iterator[Finding]:
    is_main = patched.module.endswith("._base_client")
    name = patched.sdk if is_main else patched.module
    if find_spec(patched.sdk) is None:
        if is_main:
            yield Finding(_TOPIC, name, "not installed", NOTE)
        return
    if is_disabled():
        yield Finding(_TOPIC, name, "COSTTRACE_DISABLED is set: no call is seen", NOTE)
        return
    try:
        module = import_module(patched.module)
    except Exception as error:  # a broken installation is a finding too
        text = f"{patched.module} cannot be imported: {type(error).__name__}: {error}"
        yield Finding(_TOPIC, name, text, PROBLEM if is_main else NOTE)
        return
    yield from _check_wrappers(patched, module, name)
    yield _tried(patched, module, name)


def _tried(patched: PatchedModule, module: ModuleType, name: str) -> Finding:
    """Patch and restore a module, and compare."""
    before = _targets(patched, module)
    was_active = is_active()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        instrument()
        missing = [f"{one.owner}.{one.name}" for one in patched.patches if not one.is_applied]
        is_seen = patched.is_applied
        if not was_active:
            uninstrument()
    if not is_seen:
        return Finding(_TOPIC, name, f"cannot be patched: no {', '.join(missing)}", PROBLEM)
    if not was_active and _targets(patched, module) != before:
        return Finding(_TOPIC, name, "is not as it was after the patches were removed", PROBLEM)
    if missing:
        text = f"calls are seen, but not all about them (no {', '.join(missing)})"
        return Finding(_TOPIC, name, text, NOTE)
    return Finding(_TOPIC, name, "calls are seen while a scope is open; restored exactly after it")


def _targets(patched: PatchedModule, module: ModuleType) -> list[int | None]:
    """Return what tells the present methods from others."""
    found = (vars(getattr(module, one.owner, object)).get(one.name) for one in patched.patches)
    return [None if method is None else id(method) for method in found]


def _check_wrappers(patched: PatchedModule, module: ModuleType, name: str) -> Iterator[Finding]:
    """Yield who else has put something in the place of the SDK's methods."""
    for patch in patched.patches:
        method = vars(getattr(module, patch.owner, object)).get(patch.name)
        if method is None:
            continue
        home, kind = getattr(method, "__module__", None), type(method).__name__
        if home != patched.module or kind != "function":
            text = f"{patch.owner}.{patch.name} is replaced by another tool ({home}, {kind})"
            yield Finding(_TOPIC, name, text, NOTE)


def _check_instrumentors() -> Iterator[Finding]:
    installed = [title for module, title in INSTRUMENTORS.items() if _is_installed(module)]
    if installed:
        text = f"{', '.join(installed)}: if one of them wraps the SDKs too, open it before a scope"
        yield Finding(_TOPIC, "other tools", text, NOTE)
    else:
        yield Finding(_TOPIC, "other tools", "none of the known ones is installed")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


# Prices, tokenizers, environment


def _check_prices() -> Iterator[Finding]:
    table = PriceTable.bundled()
    is_stale = table.age_days > STALE_AFTER_DAYS
    text = f"of {table.as_of}, {days_old(table.age_days)}, {len(table.models())} models"
    yield Finding("Prices and tokenizers", "prices", text, NOTE if is_stale else OK)
    own = os.environ.get("COSTTRACE_PRICES", "").strip()
    if own:
        yield _own_prices(own)


def _own_prices(path: str) -> Finding:
    topic, name = "Prices and tokenizers", "own prices"
    try:
        odd = PriceTable.check(path)
    except (CosttraceError, OSError) as error:
        return Finding(topic, name, " ".join(str(error).split()), PROBLEM)
    return Finding(topic, name, "; ".join((path, *odd)), NOTE if odd else OK)


def _check_tokenizers() -> Finding:
    found = tokenizers()
    here = [one.name for one in found if one.cached]
    if len(here) == len(found):
        return Finding("Prices and tokenizers", "tokenizers", "all are here")
    missing = f"{', '.join(here)} here; counts of other models" if here else "none here; counts"
    text = f"{missing} are estimates; costtrace tokenizers --fetch all downloads them"
    return Finding("Prices and tokenizers", "tokenizers", text, NOTE)


_SETTINGS: dict[str, Callable[[str, str], object]] = {
    "COSTTRACE_BUDGET_USD": to_pico,
    "COSTTRACE_KEEP_DAYS": days_in,
}
"""What reads a variable, and raises `ValueError` where it cannot."""


def _check_environment() -> Iterator[Finding]:
    for name in VALUES:
        value = os.environ.get(name)
        yield Finding("Environment", name, "not set" if value is None else value)
    for name, read in _SETTINGS.items():
        if value := os.environ.get(name, "").strip():
            try:
                read(value, name)
            except ValueError as error:
                yield Finding("Environment", name, str(error), PROBLEM)
    for name in SECRETS:
        yield Finding("Environment", name, "set" if os.environ.get(name) else "not set")


# A ledger


def check_ledger(path: str) -> Iterator[Finding]:
    """Yield how a ledger's file is; raises `UsageError` where there is none."""
    file = existing_ledger(path)
    topic = f"Ledger {path}"
    try:
        with CostLedger(path=file) as ledger:
            yield from _check_open_ledger(ledger, topic)
    except (CosttraceError, OSError) as error:
        yield Finding(topic, "file", str(error), PROBLEM)
        yield from _check_spools(file, topic)
        return
    yield from _check_spools(file, topic)
    schema, known = _schema(file), len(MIGRATIONS)
    yield Finding(topic, "schema", f"{schema} of {known}", OK if schema == known else NOTE)


def _check_open_ledger(ledger: CostLedger, topic: str) -> Iterator[Finding]:
    sums = ledger.store.sums()
    entries, calls = counted(sums.entries, "entry", "entries"), counted(sums.calls, "call", "calls")
    text = f"{entries}, {calls}, {format_usd(sums.cost_usd)}"
    yield Finding(topic, "entries", text)
    if sums.unpriced_calls:
        text = f"{counted(sums.unpriced_calls, 'call is', 'calls are')} in no amount"
        yield Finding(topic, "unpriced", text, NOTE)
    differences = ledger.verify()
    text = "; ".join(differences) or "equal the sums of the entries"
    yield Finding(topic, "balances", text, PROBLEM if differences else OK)
    if recovered := ledger.health().recovered:
        text = f"entries that dead processes left in spools, entered just now: {recovered:,}"
        yield Finding(topic, "spool", text, NOTE)
    if provisional := ledger.provisional():
        total = to_usd(sum(to_pico(one.cost_usd or 0) for one in provisional))
        text = (
            f"{len(provisional):,} calls are charged at their worst case, {format_usd(total)} in "
            "all, because their fate is unknown"
        )
        yield Finding(topic, "provisional", text, NOTE)
    held = ledger.store.balance(LEDGER, ALWAYS)
    if held.reserved_calls:
        reserved = format_usd(to_usd(held.reserved_pico))
        text = f"{held.reserved_calls:,} calls in flight, {reserved} reserved"
        yield Finding(topic, "in flight", text)


def _check_spools(file: Path, topic: str) -> Iterator[Finding]:
    """Yield what waits for the ledger; what dead processes left was entered when it was opened."""
    for one in waiting_spools(file_identity(file), place_of(None)):
        if one.is_damaged:
            text = f"{one.path} holds lines that are not what was written"
            yield Finding(topic, "spool", text, PROBLEM)
        else:
            whose = "of a process at work" if one.is_in_use else "of a process that died"
            yield Finding(
                topic, "spool", f"entries that wait: {one.steps:,}, in {one.path}, {whose}", NOTE
            )


def _schema(file: Path) -> int:
    """Return how many migrations a file has, where SQLite keeps a file's `user_version`."""
    with file.open("rb") as header:
        return int.from_bytes(header.read(64)[60:], "big")
