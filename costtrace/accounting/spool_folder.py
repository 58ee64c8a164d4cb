"""Where spools lie: beside the ledger's file, or where this user keeps the state of programs.

Files are made for this user alone, and no link is followed: a folder that everybody may write to
must not lead us astray.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

ENDING = ".spool"
DAMAGED = ".damaged"
_FILE = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder for spools; it is made when something is to be kept there."""

    path: Path
    is_users: bool = False
    """Whether the user named it: it is then theirs to make safe, and is not removed."""
    is_one_ledgers: bool = False
    """Whether all spools in it are of one ledger."""

    def create(self, key: str, process: str) -> tuple[int, str]:
        """Make a spool that is locked by us; return its file and its name. Raises `OSError`."""
        for attempt in range(_TRIES):
            name = f"{key}-{process}-{attempt}{ENDING}"
            with suppress(FileNotFoundError), self._made() as folder:
                file = os.open(name, _FILE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
                if _is_locked(file) and os.fstat(file).st_nlink == 1:
                    with suppress(OSError):  # some file systems have no such thing for folders
                        os.fsync(folder)
                    return file, name
                os.close(file)  # somebody took it for one that was left behind
        raise OSError(f"{self.path}: no spool can be made there")

    def take(self, name: str) -> int | None:
        """Lock a spool and return its file; None if its process lives, or it is not ours."""
        with suppress(OSError), self._opened() as folder:
            file = os.open(name, _FILE, dir_fd=folder)
            with suppress(OSError):
                if _is_locked(file) and _is_ours(os.fstat(file)):
                    there = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    if there.st_ino == os.fstat(file).st_ino:
                        return file
            os.close(file)
        return None

    def remove(self, name: str) -> None:
        """Remove a spool that is locked by us, and the folder if it is empty now."""
        with suppress(OSError), self._opened() as folder:
            os.unlink(name, dir_fd=folder)
        if not self.is_users:
            with suppress(OSError):
                self.path.rmdir()

    def set_aside(self, name: str) -> None:
        """Keep a spool that cannot be read for somebody to look at."""
        with suppress(OSError), self._opened() as folder:
            os.rename(name, name + DAMAGED, src_dir_fd=folder, dst_dir_fd=folder)

    def names(self, key: str) -> list[str]:
        """Return the spools of a ledger, whosever they are; those set aside too."""
        try:
            found = os.listdir(self.path)
        except OSError:
            return []
        return sorted(
            name
            for name in found
            if name.endswith((ENDING, ENDING + DAMAGED))
            and (self.is_one_ledgers or name.startswith(f"{key}-"))
        )

    @contextmanager
    def _made(self) -> Iterator[int]:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._opened() as folder:
            yield folder

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the folder, so that it stays the same one; raises `OSError` where it is unsafe."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        folder = os.open(self.path, flags)
        try:
            found = os.fstat(folder)
            is_safe = found.st_uid == os.geteuid() and not found.st_mode & 0o022
            if not self.is_users and not is_safe:
                raise PermissionError(f"{self.path}: others may write there")
            yield folder
        finally:
            os.close(folder)


def place_of(spool: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder that the user named, here or in the environment; None without one."""
    named = spool or os.environ.get("COSTTRACE_SPOOL", "").strip()
    return Path(os.path.realpath(named)) if named else None


def folders_of(name: str, place: Path | None) -> tuple[Folder, ...]:
    """Return where the spools of a ledger may lie, best first: in the user's `place`, if any.

    `name` is the store's; that of a SQLite file says where the file is.
    """
    if place is not None:
        return (Folder(place, is_users=True),)
    kind, _, path = name.partition(":")
    beside = (Folder(Path(f"{path}-spool"), is_one_ledgers=True),) if kind == "sqlite" else ()
    return (*beside, *_own_folders())


def key_of(name: str) -> str:
    """Return what the spools of a ledger are called in a folder that several share."""
    return blake2b(f"{os.geteuid()} {name}".encode(), digest_size=8).hexdigest()


def _own_folders() -> Iterator[Folder]:
    state, home = os.environ.get("XDG_STATE_HOME", ""), os.path.expanduser("~")
    if os.path.isabs(state):
        yield Folder(Path(state, "costtrace", "spool"))
    elif os.path.isabs(home):
        yield Folder(Path(home, ".local", "state", "costtrace", "spool"))
    temporary = os.environ.get("TMPDIR") or "/tmp"
    yield Folder(Path(temporary, f"costtrace-spool-{os.geteuid()}"))


def _is_locked(file: int) -> bool:
    """Lock a file for as long as it is open; the system unlocks it when its process dies."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_ours(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1
