"""What a SQL ledger says of names, remembered from one transaction to the next."""

from __future__ import annotations

_MOST = 4096  # names of each kind; tags may make any number of labels


class Names:
    """Numbers of labels, of owners and of sets of owners, as they were last read or given.

    They are right as long as nobody has renamed, dropped or pruned anything: whoever opens a
    transaction forgets them when somebody else may have, and when what was written is rolled back.
    """

    def __init__(self) -> None:
        self.labels: dict[tuple[object, ...], int] = {}
        self.payers: dict[tuple[str, ...], int] = {}
        self.owners: dict[str, int] = {}
        self.pruned_before_us: int | None = None
        """From when on single calls are kept; None when it was not read."""

    def forget(self) -> None:
        """Ask the database again."""
        self.labels.clear()
        self.payers.clear()
        self.owners.clear()
        self.pruned_before_us = None

    def trim(self) -> None:
        """Forget them when they have become too many."""
        if max(len(self.labels), len(self.payers), len(self.owners)) > _MOST:
            self.forget()
