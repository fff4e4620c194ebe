from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from archive_server import Served, serve, source_of

from kws.download import ATTEMPTS_WITHOUT_PROGRESS, ArchiveSource, download
from kws.errors import KwsError

DATA = os.urandom(3_000_000)


def bring(source: ArchiveSource, folder: Path) -> Path:
    return download(source, folder, lambda done, total: None, pause_s=0.0)


def test_a_whole_file_arrives_by_one_request_and_is_not_fetched_again(tmp_path: Path) -> None:
    served = Served(data=DATA)
    with serve(served) as url:
        for _ in range(2):
            assert bring(source_of(DATA, url), tmp_path).read_bytes() == DATA
    assert served.asked == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["clips.tar.gz"]


def test_a_lost_connection_goes_on_where_it_stopped_and_fetches_no_byte_twice(tmp_path: Path) -> None:
    served = Served(data=DATA, drops=[1_000_000, 500_000])
    with serve(served) as url:
        assert bring(source_of(DATA, url), tmp_path).read_bytes() == DATA
    assert served.asked == [None, "bytes=1000000-", "bytes=1500000-"]
    assert served.sent_bytes == len(DATA)


def test_progress_counts_what_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "clips.tar.gz.part").write_bytes(DATA[:2_000_000])
    seen: list[tuple[int, int]] = []
    with serve(Served(data=DATA)) as url:
        download(source_of(DATA, url), tmp_path, lambda done, total: seen.append((done, total)))
    assert seen[0][0] > 2_000_000
    assert seen[-1] == (len(DATA), len(DATA))


def test_a_second_call_goes_on_where_the_first_gave_up(tmp_path: Path) -> None:
    served = Served(data=DATA, drops=[1_000_000] + [0] * ATTEMPTS_WITHOUT_PROGRESS)
    with serve(served) as url:
        source = source_of(DATA, url)
        with pytest.raises(KwsError, match=r"1,000,000 of 3,000,000 bytes.* same command again .*goes on where"):
            bring(source, tmp_path)
        assert len(served.asked) == ATTEMPTS_WITHOUT_PROGRESS
        served.drops.clear()
        assert bring(source, tmp_path).read_bytes() == DATA
    assert served.sent_bytes == len(DATA)


def test_a_line_that_breaks_often_but_always_brings_something_gets_there(tmp_path: Path) -> None:
    served = Served(data=DATA, drops=[100_000] * (2 * ATTEMPTS_WITHOUT_PROGRESS))
    with serve(served) as url:
        assert bring(source_of(DATA, url), tmp_path).read_bytes() == DATA
    assert len(served.asked) == 2 * ATTEMPTS_WITHOUT_PROGRESS + 1


def test_a_server_without_ranges_starts_over(tmp_path: Path) -> None:
    served = Served(data=DATA, ranges=False, drops=[1_000_000])
    with serve(served) as url:
        assert bring(source_of(DATA, url), tmp_path).read_bytes() == DATA
    assert served.asked == [None, "bytes=1000000-"]


def test_a_server_without_ranges_that_breaks_at_the_same_byte_is_given_up(tmp_path: Path) -> None:
    served = Served(data=DATA, ranges=False, drops=[1_000_000] * 100)
    with serve(served) as url, pytest.raises(KwsError, match="connection was lost"):
        bring(source_of(DATA, url), tmp_path)
    assert len(served.asked) == ATTEMPTS_WITHOUT_PROGRESS


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(tmp_path: Path, status: int) -> None:
    served = Served(data=DATA, statuses=[status, status])
    with serve(served) as url:
        assert bring(source_of(DATA, url), tmp_path).read_bytes() == DATA
    assert len(served.asked) == 3


def test_a_file_that_is_not_there_is_not_asked_for_again(tmp_path: Path) -> None:
    served = Served(data=DATA, statuses=[404] * 9)
    with serve(served) as url, pytest.raises(KwsError, match=r"answers 404 .*--archive"):
        bring(source_of(DATA, url), tmp_path)
    assert len(served.asked) == 1


def test_no_server_at_all_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(KwsError, match=r"refused.*0 of 3,000,000 bytes are there; run the same command again"):
            bring(source_of(DATA, url), tmp_path)


@pytest.mark.parametrize("served", [DATA[:-1], DATA + b"x"])
def test_another_size_is_refused_before_anything_is_written(tmp_path: Path, served: bytes) -> None:
    with serve(Served(data=served)) as url, pytest.raises(KwsError, match="published one has 3,000,000"):
        bring(source_of(DATA, url), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_unknown_length_is_cut_off_past_the_published_size(tmp_path: Path) -> None:
    with serve(Served(data=DATA * 3, chunked=True)) as url, pytest.raises(KwsError, match="more than 3,000,000"):
        bring(source_of(DATA, url), tmp_path)
    assert (tmp_path / "clips.tar.gz.part").stat().st_size <= len(DATA)


def test_a_wrong_digest_is_refused_and_removed(tmp_path: Path) -> None:
    other = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with serve(Served(data=other)) as url, pytest.raises(KwsError, match="sha256 is another"):
        bring(source_of(DATA, url), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_is_none_of_the_file_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "clips.tar.gz.part").write_bytes(b"something else")
    with serve(Served(data=DATA)) as url:
        source = source_of(DATA, url)
        with pytest.raises(KwsError, match="sha256 is another"):
            bring(source, tmp_path)
        assert bring(source, tmp_path).read_bytes() == DATA


def test_a_part_longer_than_the_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "clips.tar.gz.part").write_bytes(DATA + b"x")
    with serve(Served(data=DATA)) as url:
        assert bring(source_of(DATA, url), tmp_path).read_bytes() == DATA


def test_a_shorter_file_behind_a_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clips.tar.gz.part").write_bytes(DATA[:2000])
    with serve(Served(data=DATA[:1000])) as url, pytest.raises(KwsError, match="no more than 2,000"):
        bring(source_of(DATA, url), tmp_path)


def test_what_lies_there_whole_but_changed_is_fetched_anew(tmp_path: Path) -> None:
    (tmp_path / "clips.tar.gz").write_bytes(bytes(len(DATA)))
    with serve(Served(data=DATA)) as url:
        assert bring(source_of(DATA, url), tmp_path).read_bytes() == DATA


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "downloads").write_text("")
    source = source_of(DATA, "http://127.0.0.1:1")
    with pytest.raises(KwsError, match="cannot write here"):
        bring(source, tmp_path / "downloads")


def test_a_full_disk_is_one_sentence_and_keeps_what_arrived(small_disk: Path, tmp_path: Path) -> None:
    served = Served(data=DATA)
    with serve(served) as url:
        source = source_of(DATA, url)
        with pytest.raises(KwsError, match=r"part: cannot be written \(No space left.*free some space"):
            bring(source, small_disk)
        assert len(served.asked) == 1
        arrived = small_disk / "clips.tar.gz.part"
        assert 0 < arrived.stat().st_size <= 1 << 20
        (tmp_path / arrived.name).write_bytes(arrived.read_bytes())
        assert bring(source, tmp_path).read_bytes() == DATA
