"""What a sink must do."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from costtrace.entry import Alert, CostEntry


@runtime_checkable
class Sink(Protocol):
    """Where finished entries and alerts go besides the store. Called from any thread.

    It is called once for each entry, with a lock of nobody held, in the thread that made the call;
    so it should be quick. What it raises is caught and logged by its caller.
    """

    def entry(self, entry: CostEntry) -> None:
        """Take an entry that has come into the ledger."""

    def alert(self, alert: Alert) -> None:
        """Take an alert that has fired."""
