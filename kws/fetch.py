"""Public data sets by name -> a folder that `kws train` takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from kws import progress
from kws.artifact import atomic_folder, check_new_folder, write_json
from kws.config import OFFICIAL_TEST_FOLDER
from kws.download import GO_ON, ArchiveSource, Progress, download, is_file_of
from kws.errors import KwsError
from kws.unpack import unpack

FETCH_NAME = "fetch.json"
# Speech Commands unpacks to 1.4 times its archive.
MAX_EXPANSION = 10
EXPANSION_ALLOWANCE_BYTES = 1 << 20

_AT = "https://storage.googleapis.com/download.tensorflow.org/data/"

# Warden 2018, arXiv:1804.03209. Sizes and sha256 as tensorflow/datasets publishes them for v0.02
# (url_checksums/speech_commands.txt) and huggingface/datasets for v0.01 (superb/dataset_infos.json, "ks").
# Each data set's first archive is all its clips, the second the test clips of the 12-class task.
DATA_SETS: dict[str, tuple[ArchiveSource, ...]] = {
    "speech-commands-v2": (
        ArchiveSource(
            url=_AT + "speech_commands_v0.02.tar.gz",
            size_bytes=2_428_923_189,
            sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        ),
        ArchiveSource(
            url=_AT + "speech_commands_test_set_v0.02.tar.gz",
            size_bytes=112_563_277,
            sha256="cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
            folder=OFFICIAL_TEST_FOLDER,
        ),
    ),
    "speech-commands-v1": (
        ArchiveSource(
            url=_AT + "speech_commands_v0.01.tar.gz",
            size_bytes=1_489_096_277,
            sha256="743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        ),
        ArchiveSource(
            url=_AT + "speech_commands_test_set_v0.01.tar.gz",
            size_bytes=71_271_436,
            sha256="baa084f6b62c91de660ff0588ae4dfc4e4d534aa99ac0e5f406cba75836cbd00",
            folder=OFFICIAL_TEST_FOLDER,
        ),
    ),
}

Bar = Callable[[str], AbstractContextManager[Progress]]


def download_folder(out: Path) -> Path:
    """Where archives of `out` lie while they are incomplete: a folder beside it."""
    return out.with_name(f"{out.name}.download")


def fetch(archives: Sequence[ArchiveSource], out: Path, *, given: Sequence[Path] = (), bar: Bar = progress.bar) -> Path:
    """Bring `archives` into the new folder `out` and return it.

    Each is taken from `given`, files that the user already has, where one has its size and sha256, and
    downloaded otherwise, into `download_folder(out)`. That folder is removed once `out` is there; until then a
    second call goes on where the first stopped. `out` appears whole or not at all, with fetch.json naming the sources.
    Raises KwsError for an `out` that holds anything, a file in `given` that is none of the archives, and as
    `download` and `unpack` do.
    """
    check_new_folder(out)
    have = _match(given, archives, bar)
    folder = download_folder(out)
    for archive in archives:
        if archive not in have:
            try:
                with bar(f"Downloading {archive.name}") as report:
                    have[archive] = download(archive, folder, report)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"Interrupted; {folder} keeps what arrived: {GO_ON}.") from None
    _unpack_all(archives, have, out, bar)
    for archive in archives:
        (folder / archive.name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    return out


def _unpack_all(archives: Sequence[ArchiveSource], have: dict[ArchiveSource, Path], out: Path, bar: Bar) -> None:
    try:
        with atomic_folder(out) as temporary:
            for archive in archives:
                limit = MAX_EXPANSION * archive.size_bytes + EXPANSION_ALLOWANCE_BYTES
                with bar(f"Unpacking {archive.name}") as report:
                    unpack(have[archive], temporary / archive.folder, limit, report)
            write_json(temporary / FETCH_NAME, {"archives": [asdict(archive) for archive in archives]})
    except OSError as error:
        remedy = f"free some space or choose another output folder, and {GO_ON}"
        raise KwsError(f"{out}: cannot be written ({error.strerror}); {remedy}.") from error


def _match(given: Sequence[Path], archives: Sequence[ArchiveSource], bar: Bar) -> dict[ArchiveSource, Path]:
    have: dict[ArchiveSource, Path] = {}
    for path in given:
        if not path.is_file():
            raise KwsError(f"{path}: no such file; give the path of an archive, or leave --archive out.")
        size_bytes = path.stat().st_size
        of_this_size = [archive for archive in archives if archive.size_bytes == size_bytes]
        if not of_this_size:
            sizes = ", ".join(f"{archive.name} with {archive.size_bytes:,}" for archive in archives)
            raise KwsError(f"{path}: has {size_bytes:,} bytes and is none of {sizes}; get it whole, or leave it out.")
        with bar(f"Checking {path.name}"):
            match = next((archive for archive in of_this_size if is_file_of(path, archive)), None)
        if match is None:
            raise KwsError(f"{path}: is not the published {of_this_size[0].name} (its sha256 is another); get it anew.")
        have[match] = path
    return have
