"""The lines of a ledger: an entry for each call, a total for each group, an alert for a limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal, TypeAlias

from costtrace.money import format_usd
from costtrace.records import quickly_made
from costtrace.usage import Usage

Status: TypeAlias = Literal["ok", "error", "partial", "raised"]
"""How the call ended.

`ok`: answered. `error`: the provider failed it before doing work; it cost nothing. `partial`: left,
cut or cancelled before its end. `raised`: billed, then the SDK raised.
"""

Grade: TypeAlias = Literal["reported", "estimated", "assumed", "unpriced"]
"""How exact the cost is.

`reported`: from the provider's usage. `estimated`: counted locally. `assumed`: the worst case of a
call whose fate is unknown. `unpriced`: no price is known, so the cost is None.
"""


@quickly_made()
@dataclass(frozen=True, slots=True, kw_only=True)
class CostEntry:
    """One line of the ledger: one call, however often the SDK had to try it.

    No field holds anything of a prompt or an answer.
    """

    model: str
    """The model that served the call, where the answer names it; else the one requested."""
    function_name: str
    user_id: str
    usage: Usage
    cost_usd: Decimal | None
    """US dollars, exact; None when no price is known."""
    timestamp: datetime
    """When the call was authorized, aware UTC: it decides the price and the budget's window."""
    call_id: str
    provider: str = ""
    operation: str = ""
    request_model: str = ""
    call_path: tuple[str, ...] = ()
    """All tracked functions around the call, from the outside in."""
    tags: Mapping[str, str] = field(default_factory=dict)
    service_tier: str = "standard"
    """The tier that served the call: standard, flex, priority, batch, ..."""
    region: str = ""
    """Where it ran, if that has a price of its own."""
    streamed: bool = False
    status: Status = "ok"
    grade: Grade = "reported"
    reserved_usd: Decimal | None = None
    """What was reserved for it before it was sent; None when nothing was."""
    duration_s: float | None = None
    attempts: int = 1
    response_id: str | None = None
    price_id: str | None = None
    """Which price was used, and by which rule it was found."""
    gateway_cost_usd: Decimal | None = None
    """What a gateway says that it charges for the call; never part of a total."""
    adjusts: str | None = None
    """The call whose cost this line corrects; such a line is no call of its own."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens sent, cached ones included."""
        return self.usage.input_tokens

    @property
    def completion_tokens(self) -> int:
        """Tokens generated, reasoning included."""
        return self.usage.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """The sum of one group of entries; the totals of a grouping sum to the whole exactly."""

    key: str | tuple[str, ...]
    """The group: one name, or a tuple of them when grouped by several."""
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal
    """The known costs; `unpriced_calls` tells how many more there are."""
    unpriced_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A budget has crossed one of its thresholds; `str()` is the line that is logged."""

    user_id: str | None
    """None for the ledger's own budget."""
    threshold: float
    """The share of the limit that was reached: 0.9 for 90%."""
    spent_usd: Decimal
    limit_usd: Decimal
    window: str | None
    resets_at: datetime | None

    def __str__(self) -> str:
        who = "(ledger)" if self.user_id is None else f"(user {self.user_id})"
        return (
            f"{_percent(self.threshold)} of budget used: "
            f"{format_usd(self.spent_usd)} / {format_usd(self.limit_usd)} {who}"
        )


def _percent(share: float) -> str:
    return f"{(Decimal(repr(share)) * 100).normalize():f}%"
