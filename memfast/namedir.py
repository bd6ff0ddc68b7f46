"""csrc/namedir.c in Python: what is in a user's directory of names, as an onlooker sees it."""

from __future__ import annotations

import errno
import os
import stat

from memfast._core import ffi, lib
from memfast.name_errors import ROOT
from memfast.records import NamedTuple

__all__ = ["Entry", "entries", "owners", "path_of", "reap", "state"]

_PREFIX = "memfast-"
_UID_MAX = 0xFFFFFFFE


class Entry(NamedTuple):
    """One thing in a directory of names; figures that cannot be known are 0."""

    owner: int  # uid that the directory is called after
    file: str
    status: int  # 0, or the negative errno why it is no name that can be told anything of
    mode: int  # st_mode; 0: gone meanwhile
    uid: int
    size: int  # bytes of the file
    changed_ns: int  # since it has its name, or another mode; after the epoch
    lived_on: bool  # a map: somebody has it
    segment_id: int  # a record's
    nonce: int

    @property
    def name(self) -> str:
        """What users call it."""
        return self.file.rpartition(".")[0]

    @property
    def kind(self) -> str:
        """What it stands for: "map", "channel", ..."""
        return self.file.rpartition(".")[2]

    @property
    def persists(self) -> bool:
        """Whether a map stays when nobody uses it."""
        return self.kind == "map" and bool(self.mode & stat.S_ISVTX)


def owners() -> list[int]:
    """Return the uids whose directories of names are asked for: root sees all, others their own."""
    if os.geteuid() != 0:
        return [os.geteuid()]
    try:
        found = os.listdir(ROOT)
    except OSError:
        return []
    numbers = (one.removeprefix(_PREFIX) for one in found if one.startswith(_PREFIX))
    return sorted(
        int(one)
        for one in numbers
        if one.isascii() and one.isdigit() and str(int(one)) == one and int(one) <= _UID_MAX
    )


def path_of(owner: int, file: str = "") -> str:
    """Return the path of a directory of names, or of a file in it."""
    return f"{ROOT}/{_PREFIX}{owner}{'/' if file else ''}{file}"


def _open(owner: int) -> tuple[int, int]:
    fd = ffi.new("int *")
    status = lib.mf_namedir_open(owner, 0, fd)
    return status, int(fd[0])


def state(owner: int) -> int:
    """Return 0 if the directory is as it must be, or a negative errno (see name_errors)."""
    status, fd = _open(owner)
    if status == 0:
        os.close(fd)
    return status


def entries(owner: int) -> tuple[int, list[Entry]]:
    """
    Return all that is in a directory of names, and 0, or a negative errno if it is not trusted.

    Nothing is changed, nor opened but plain files of the owner's. Costs about five
    system calls for each.
    """
    status, directory = _open(owner)
    if status != 0:
        return status, []
    try:
        return 0, [_look(directory, owner, file) for file in sorted(os.listdir(directory))]
    except OSError as error:
        return -(error.errno or errno.EIO), []
    finally:
        os.close(directory)


def _look(directory: int, owner: int, file: str) -> Entry:
    raw = ffi.new("struct mf_namedir_entry *")
    is_map = file.endswith(".map")
    status = lib.mf_namedir_look(directory, owner, os.fsencode(file), is_map, raw)
    return Entry(
        owner,
        file,
        status,
        raw.mode,
        raw.uid,
        raw.size,
        raw.changed_ns,
        bool(raw.lived_on),
        raw.segment_id,
        raw.nonce,
    )


def reap(entry: Entry) -> int:
    """
    Remove a name that was found dead, if it still is: 0, or a negative errno.

    A map is looked at anew under the directory's lock; a record must still speak of the same
    life of the same segment, whose death is for the caller to know.
    """
    file = os.fsencode(entry.file)
    is_map = entry.kind == "map"
    return int(lib.mf_namedir_reap(entry.owner, file, is_map, entry.segment_id, entry.nonce))
