"""What became of a command line, and how a test asks for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import costtrace

ROOT = Path(costtrace.__file__).parent.parent
FIRST = datetime(2026, 11, 20, 10, 0, tzinfo=timezone.utc)
SECOND = datetime(2026, 11, 21, 10, 0, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one command line."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Outcome]
