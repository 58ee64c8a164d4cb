"""The ways in: what a user types around functions, request handlers and other providers' calls.

What asks models by itself (`compare_models`, `estimate`) is loaded when first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from costtrace.api.budgeting import Budget, budget
from costtrace.api.by_hand import Hold
from costtrace.api.tracking import tracked

if TYPE_CHECKING:
    from costtrace.api.compare import acompare_models, compare_models
    from costtrace.api.comparison import Answer, Comparison, ModelRow
    from costtrace.api.estimation import Estimate, aestimate, estimate
    from costtrace.api.handing import headers, resume

__all__ = [
    "Answer",
    "Budget",
    "Comparison",
    "Estimate",
    "Hold",
    "ModelRow",
    "acompare_models",
    "aestimate",
    "budget",
    "compare_models",
    "estimate",
    "headers",
    "resume",
    "tracked",
]

_LAZY = {
    "Answer": "comparison",
    "Comparison": "comparison",
    "Estimate": "estimation",
    "ModelRow": "comparison",
    "acompare_models": "compare",
    "aestimate": "estimation",
    "compare_models": "compare",
    "estimate": "estimation",
    "headers": "handing",
    "resume": "handing",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
