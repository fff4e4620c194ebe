from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest
from archive_server import tar_gz

from kws.errors import KwsError
from kws.unpack import unpack

LIMIT = 1 << 20


def archive_of(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "clips.tar.gz"
    path.write_bytes(data)
    return path


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_files_come_out_as_they_went_in_and_are_counted(tmp_path: Path) -> None:
    files = {"./yes/a_nohash_0.wav": b"one", "no/b.wav": b"two" * 1000, "./testing_list.txt": b""}
    out = tmp_path / "out"
    seen: list[tuple[int, int]] = []
    archive = archive_of(tmp_path, tar_gz(files, member("./", tarfile.DIRTYPE), member("empty/", tarfile.DIRTYPE)))
    count = unpack(archive, out, LIMIT, lambda done, total: seen.append((done, total)))
    assert count == 3
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == {"yes/a_nohash_0.wav": b"one", "no/b.wav": b"two" * 1000, "testing_list.txt": b""}
    assert (out / "empty").is_dir()
    assert seen[-1] == (archive.stat().st_size, archive.stat().st_size)


def test_rights_in_the_archive_are_not_taken_over(tmp_path: Path) -> None:
    info = tarfile.TarInfo("run")
    info.mode = 0o4777
    unpack(archive_of(tmp_path, tar_gz({}, info)), tmp_path / "out", LIMIT)
    assert (tmp_path / "out" / "run").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (member("../escaped", tarfile.REGTYPE), "leads out"),
        (member("a/../../escaped", tarfile.REGTYPE), "leads out"),
        (member("/dev/null/escaped", tarfile.REGTYPE), "leads out"),
        (member("..", tarfile.DIRTYPE), "leads out"),
        (member("a\\..\\escaped", tarfile.REGTYPE), "leads out"),
        (member("escaped", tarfile.SYMTYPE, "/etc/passwd"), "no plain file"),
        (member("escaped", tarfile.SYMTYPE, "inside"), "no plain file"),
        (member("escaped", tarfile.LNKTYPE, "good.wav"), "no plain file"),
        (member("escaped", tarfile.CHRTYPE), "no plain file"),
        (member("escaped", tarfile.BLKTYPE), "no plain file"),
        (member("escaped", tarfile.FIFOTYPE), "no plain file"),
        (member("good.wav", tarfile.REGTYPE), "is there twice"),
        (member("./", tarfile.REGTYPE), "has no name"),
    ],
)
def test_members_that_could_harm_are_refused(tmp_path: Path, wrong: tarfile.TarInfo, sentence: str) -> None:
    archive = archive_of(tmp_path, tar_gz({"good.wav": b"good"}, wrong))
    with pytest.raises(KwsError, match=rf"clips\.tar\.gz: .*{sentence}"):
        unpack(archive, tmp_path / "deep" / "out", LIMIT)
    assert not list(tmp_path.rglob("escaped"))
    assert (tmp_path / "deep" / "out" / "good.wav").read_bytes() == b"good"


def test_a_file_through_a_link_of_the_same_archive_cannot_leave(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    link = member("door", tarfile.SYMTYPE, str(tmp_path / "outside"))
    with pytest.raises(KwsError, match="no plain file"):
        unpack(archive_of(tmp_path, tar_gz({}, link, member("door/escaped", tarfile.REGTYPE))), tmp_path / "o", LIMIT)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, tar_gz({"zeros": bytes(50 << 20)}))
    assert archive.stat().st_size < LIMIT
    with pytest.raises(KwsError, match="decompresses to far more"):
        unpack(archive, tmp_path / "out", LIMIT)
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= LIMIT


def test_a_bomb_behind_the_end_of_the_archive_is_stopped_too(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, tar_gz({"good": b""}) + gzip.compress(bytes(50 << 20)))
    with pytest.raises(KwsError, match="decompresses to far more"):
        unpack(archive, tmp_path / "out", LIMIT)


@pytest.mark.parametrize("cut", [0, 5, 40, -30, -4])
def test_a_truncated_archive_is_refused(tmp_path: Path, cut: int) -> None:
    whole = tar_gz({f"{index}.wav": bytes([index]) * 999 for index in range(50)})
    with pytest.raises(KwsError, match=r"is no whole tar\.gz"):
        unpack(archive_of(tmp_path, whole[:cut]), tmp_path / "out", LIMIT)


def test_damage_inside_is_found_by_the_checksum(tmp_path: Path) -> None:
    damaged = bytearray(tar_gz({"a.wav": bytes(range(256)) * 40}))
    damaged[-8] ^= 1
    with pytest.raises(KwsError, match=r"is no whole tar\.gz"):
        unpack(archive_of(tmp_path, bytes(damaged)), tmp_path / "out", LIMIT)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for data in (b"<html>not here</html>", gzip.compress(b"no tar" * 1000)):
        with pytest.raises(KwsError, match=r"is no whole tar\.gz"):
            unpack(archive_of(tmp_path, data), tmp_path / "out", LIMIT)
