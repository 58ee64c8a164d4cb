"""What does an LLM application cost, who spent it, and how is it stopped before it is too much.

`@tracked` names what a call is made for, `with budget(user_id, limit)` who pays for it and how much
that may be; `costtrace.ledger` keeps every call, and `costtrace.ledger.report()` shows them.

Everything is loaded when it is first used: importing this package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from costtrace.lazy import lazily

__version__ = "0.1.0"

if TYPE_CHECKING:
    from costtrace.accounting import Advice as Advice
    from costtrace.accounting import CostLedger as CostLedger
    from costtrace.accounting import advise as advise
    from costtrace.accounting import configure as configure
    from costtrace.api import Budget as Budget
    from costtrace.api import Comparison as Comparison
    from costtrace.api import Estimate as Estimate
    from costtrace.api import Hold as Hold
    from costtrace.api import acompare_models as acompare_models
    from costtrace.api import aestimate as aestimate
    from costtrace.api import budget as budget
    from costtrace.api import compare_models as compare_models
    from costtrace.api import estimate as estimate
    from costtrace.api import headers as headers
    from costtrace.api import resume as resume
    from costtrace.api import tracked as tracked
    from costtrace.entry import Alert as Alert
    from costtrace.entry import CostEntry as CostEntry
    from costtrace.entry import Total as Total
    from costtrace.exceptions import BudgetExceededError as BudgetExceededError
    from costtrace.exceptions import BudgetStoreError as BudgetStoreError
    from costtrace.exceptions import CallConflictError as CallConflictError
    from costtrace.exceptions import CosttraceError as CosttraceError
    from costtrace.exceptions import CosttraceWarning as CosttraceWarning
    from costtrace.exceptions import EvictingStoreWarning as EvictingStoreWarning
    from costtrace.exceptions import HandoffError as HandoffError
    from costtrace.exceptions import InstrumentationWarning as InstrumentationWarning
    from costtrace.exceptions import PriceTableError as PriceTableError
    from costtrace.exceptions import SharedBudgetWarning as SharedBudgetWarning
    from costtrace.exceptions import StalePricesWarning as StalePricesWarning
    from costtrace.exceptions import StoreResetError as StoreResetError
    from costtrace.exceptions import UncoveredCallWarning as UncoveredCallWarning
    from costtrace.exceptions import UnknownPriceError as UnknownPriceError
    from costtrace.exceptions import UnpricedModelWarning as UnpricedModelWarning
    from costtrace.instrumentation import instrument as instrument
    from costtrace.instrumentation import is_active as active
    from costtrace.instrumentation import uninstrument as uninstrument
    from costtrace.pricing import PriceTable as PriceTable
    from costtrace.pricing import estimate_cost as estimate_cost
    from costtrace.scopes import carry as carry
    from costtrace.stores import DBAPIStore as DBAPIStore
    from costtrace.stores import MemoryStore as MemoryStore
    from costtrace.stores import RedisStore as RedisStore
    from costtrace.stores import SQLiteStore as SQLiteStore
    from costtrace.tokens import TokenCount as TokenCount
    from costtrace.tokens import acount_message_tokens as acount_message_tokens
    from costtrace.tokens import acount_tokens as acount_tokens
    from costtrace.tokens import count_message_tokens as count_message_tokens
    from costtrace.tokens import count_tokens as count_tokens
    from costtrace.tokens import trim_messages as trim_messages
    from costtrace.tokens import truncate_text as truncate_text
    from costtrace.usage import Usage as Usage

    ledger: CostLedger
    """The process's ledger, as `configure` or the environment made it."""

_HOMES = {  # module -> the public names that live there
    "accounting": ("Advice", "CostLedger", "advise", "configure"),
    "api": (
        "Budget",
        "Comparison",
        "Estimate",
        "Hold",
        "acompare_models",
        "aestimate",
        "budget",
        "compare_models",
        "estimate",
        "headers",
        "resume",
        "tracked",
    ),
    "entry": ("Alert", "CostEntry", "Total"),
    "exceptions": (
        "BudgetExceededError",
        "BudgetStoreError",
        "CallConflictError",
        "CosttraceError",
        "CosttraceWarning",
        "EvictingStoreWarning",
        "HandoffError",
        "InstrumentationWarning",
        "PriceTableError",
        "SharedBudgetWarning",
        "StalePricesWarning",
        "StoreResetError",
        "UncoveredCallWarning",
        "UnknownPriceError",
        "UnpricedModelWarning",
    ),
    "instrumentation": ("instrument", "uninstrument"),
    "pricing": ("PriceTable", "estimate_cost"),
    "scopes": ("carry",),
    "stores": ("DBAPIStore", "MemoryStore", "RedisStore", "SQLiteStore"),
    "tokens": (
        "TokenCount",
        "acount_message_tokens",
        "acount_tokens",
        "count_message_tokens",
        "count_tokens",
        "trim_messages",
        "truncate_text",
    ),
    "usage": ("Usage",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

_load, __dir__ = lazily(__name__, _HOME_OF)

__all__ = ["active", "ledger", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name == "ledger":  # never kept: `configure` replaces it
        return import_module("costtrace.accounting").default_ledger()
    if name == "active":
        return import_module("costtrace.instrumentation").is_active
    return _load(name)
