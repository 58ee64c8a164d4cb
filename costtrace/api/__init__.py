"""The ways in: what a user types around functions, request handlers and other providers' calls.

What asks models by itself (`compare_models`, `estimate`) is loaded when first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from costtrace.api.budgeting import Budget, budget
from costtrace.api.by_hand import Hold
from costtrace.api.tracking import tracked
from costtrace.lazy import lazily

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

__getattr__, __dir__ = lazily(
    __name__,
    {
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
    },
)
