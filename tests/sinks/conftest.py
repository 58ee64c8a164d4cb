"""An alert as a ledger hands it to a sink."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

import pytest

from costtrace.entry import Alert


@pytest.fixture
def alert() -> Alert:
    return Alert(
        user_id="alice",
        threshold=0.9,
        spent_usd=Decimal("4.521"),
        limit_usd=Decimal(5),
        window="month",
        resets_at=datetime(2026, 12, 1, tzinfo=timezone.utc),
    )
