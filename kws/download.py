"""An archive over HTTP: resumed where it broke off, and believed only if its size and sha256 are the published ones."""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from kws.artifact import make_folder
from kws.errors import KwsError

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 30.0
ATTEMPTS_WITHOUT_PROGRESS = 5
PAUSE_S = 2.0
TRANSIENT_STATUS = (408, 425, 429)
GO_ON = "run the same command again and it goes on where it stopped"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class ArchiveSource:
    """A published tar.gz archive; `folder` is where in the data set its files belong, "" being its root."""

    url: str
    size_bytes: int
    sha256: str
    folder: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name


class _ConnectionLostError(Exception):
    """The transfer broke off; what arrived is kept and asking for the rest may help."""


def download(source: ArchiveSource, folder: Path, progress: Progress, *, pause_s: float = PAUSE_S) -> Path:
    """Bring `source` into `folder` and return its path; `progress` is told bytes done and in all.

    What arrives is kept in `<name>.part` until size and sha256 are right, also if this call fails. A lost
    connection is tried again ATTEMPTS_WITHOUT_PROGRESS times, waiting `pause_s` times the number of tries.
    Raises KwsError if the server cannot be reached, refuses, or sends another file, or the disk is full.
    """
    whole = folder / source.name
    if is_file_of(whole, source):
        return whole
    make_folder(folder)
    part = whole.with_name(f"{whole.name}.part")
    failures, furthest = 0, _size(part)
    while _size(part) != source.size_bytes:
        try:
            _transfer(source, part, progress)
        except _ConnectionLostError as lost:
            failures = 1 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures == ATTEMPTS_WITHOUT_PROGRESS:
                have = f"{_size(part):,} of {source.size_bytes:,} bytes are there"
                raise KwsError(f"{source.url}: the connection was lost ({lost}), {have}; {GO_ON}.") from lost
            time.sleep(pause_s * failures)
    if not is_file_of(part, source):
        part.unlink()
        raise KwsError(
            f"{source.url}: what arrived is not the published file (its sha256 is another) and was removed; run the "
            "command again, and if it happens again get the archive elsewhere and give it with --archive."
        )
    part.rename(whole)
    return whole


def is_file_of(path: Path, source: ArchiveSource) -> bool:
    """Whether `path` is a file with the size and sha256 of `source`."""
    if not path.is_file() or _size(path) != source.size_bytes:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest() == source.sha256


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _transfer(source: ArchiveSource, part: Path, progress: Progress) -> None:
    """One request: append to `part` from where it ends, or start over if the server knows no ranges."""
    if _size(part) > source.size_bytes:
        part.unlink()
    with _open(source, _size(part)) as response:
        start = _start_of(response, source, _size(part))
        try:
            with part.open("r+b" if start else "wb") as stream:
                stream.truncate(start)
                stream.seek(start)
                for block in _blocks(response):
                    if stream.tell() + len(block) > source.size_bytes:
                        raise _wrong_size(source, f"more than {source.size_bytes:,}")
                    stream.write(block)
                    progress(stream.tell(), source.size_bytes)
        except OSError as error:
            raise KwsError(f"{part}: cannot be written ({error.strerror}); free some space, {GO_ON}.") from error
    if _size(part) < source.size_bytes:
        raise _ConnectionLostError("it ended early")


def _open(source: ArchiveSource, have_bytes: int) -> http.client.HTTPResponse:
    request = urllib.request.Request(source.url, headers={"User-Agent": "kws", "Accept-Encoding": "identity"})
    if have_bytes:
        request.add_header("Range", f"bytes={have_bytes}-")
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        return response
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _wrong_size(source, f"no more than {have_bytes:,}") from error
        if error.code in TRANSIENT_STATUS or error.code >= http.client.INTERNAL_SERVER_ERROR:
            raise _ConnectionLostError(f"the server answers {error.code} {error.reason}") from error
        raise KwsError(
            f"{source.url}: the server answers {error.code} {error.reason}; get the archive elsewhere and give it with "
            "--archive."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _ConnectionLostError(str(getattr(error, "reason", None) or error or type(error).__name__)) from error


def _start_of(response: http.client.HTTPResponse, source: ArchiveSource, have_bytes: int) -> int:
    """The offset of the first byte that `response` carries; raises KwsError if its size shows another file."""
    start, size = 0, response.headers.get("Content-Length", "")
    if response.status == http.client.PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != have_bytes:
            raise _ConnectionLostError("the server answers with another range than was asked for")
        start, size = have_bytes, found[2]
    if size.isdecimal() and int(size) != source.size_bytes:
        raise _wrong_size(source, f"{int(size):,}")
    return start


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            block = response.read1(BLOCK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _ConnectionLostError(str(error) or type(error).__name__) from error
        if not block:
            return
        yield block


def _wrong_size(source: ArchiveSource, found: str) -> KwsError:
    return KwsError(
        f"{source.url}: the server has a file of {found} bytes, the published one has {source.size_bytes:,}; get the "
        "archive elsewhere and give it with --archive."
    )
