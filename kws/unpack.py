"""A tar.gz archive from a stranger -> files below one folder, and nothing else."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from kws.errors import KwsError

BLOCK_BYTES = 1 << 20
NAME_BYTES_SHOWN = 200

Progress = Callable[[int, int], None]


def unpack(archive: Path, folder: Path, limit_bytes: int, progress: Progress | None = None) -> int:
    """Write the files of `archive` below `folder` (created if missing) and return how many there were.

    `limit_bytes` bounds what the archive may decompress to, its headers included. Rights, owners and times in the
    archive are not taken over; `progress` is told how many of its bytes are read and of how many.
    Raises KwsError for an archive that is broken or too large, or holds a link, a device, a name that leads out
    of `folder`, or a name twice. Then `folder` may hold part of it: let it be a temporary one.
    """
    count = 0
    try:
        with archive.open("rb") as packed, gzip.GzipFile(fileobj=packed) as unpacked:
            limited = _Limited(unpacked, limit_bytes, archive)
            # "r|" reads forwards only, so that what is not asked for is not kept in memory.
            with tarfile.open(fileobj=limited, mode="r|") as members:  # type: ignore[call-overload]  # It needs read().
                for member in members:
                    count += _write(members, member, folder, archive)
                    if progress:
                        progress(packed.tell(), archive.stat().st_size)
            while limited.read(BLOCK_BYTES):
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise KwsError(f"{archive}: is no whole tar.gz archive; remove it and get it anew.") from error
    return count


class _Limited:
    """What `stream` reads, up to a number of bytes."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, limit_bytes: int, archive: Path) -> None:
        self.stream, self.left_bytes, self.archive = stream, limit_bytes, archive

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        self.left_bytes -= len(block)
        if self.left_bytes < 0:
            raise KwsError(f"{self.archive}: decompresses to far more than it should; get it from its publisher.")
        return block


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> int:
    path = folder / _safe_name(member, archive)
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    source = members.extractfile(member)
    assert source is not None  # _safe_name lets regular files and folders pass only.
    try:
        with path.open("xb") as target:
            shutil.copyfileobj(source, target, BLOCK_BYTES)
    except FileExistsError as error:
        raise _refused(member, archive, "is there twice") from error
    return 1


def _safe_name(member: tarfile.TarInfo, archive: Path) -> PurePosixPath:
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise _refused(member, archive, "is no plain file or folder")
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
        raise _refused(member, archive, "leads out of the folder")
    if member.isreg() and not name.parts:
        raise _refused(member, archive, "has no name")
    return name


def _refused(member: tarfile.TarInfo, archive: Path, reason: str) -> KwsError:
    return KwsError(f"{archive}: {member.name[:NAME_BYTES_SHOWN]!r} in it {reason}; get it from its publisher.")
