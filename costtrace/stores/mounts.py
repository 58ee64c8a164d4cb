"""Which file system a folder is on, as far as Linux tells."""

from __future__ import annotations

from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "vboxsf", "afs", "ceph", "glusterfs"}
_LOCAL_FUSE = {"fuse.fuse-overlayfs", "fuse.ntfs", "fuse.ntfs-3g"}


def network_file_system(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the folder's file system if it is one of a network; else None."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    kind, longest = "", -1
    where = folder.resolve()
    for line in lines:
        place, _, rest = line.partition(" - ")
        mount = Path(_unescaped(place.split(" ")[4]))
        if (where == mount or mount in where.parents) and len(mount.parts) >= longest:
            kind, longest = rest.split(" ")[0], len(mount.parts)
    is_network = kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)
    return kind if is_network else None


def _unescaped(path: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(escape, character)
    return path
