from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from archive_server import Served, serve, source_of, tar_gz
from conftest import tone

from kws import cli
from kws.commands.fetch import NAMES
from kws.config import OFFICIAL_TEST_FOLDER, FeatureConfig
from kws.dataset import load_dataset
from kws.download import ArchiveSource
from kws.errors import KwsError
from kws.fetch import DATA_SETS, download_folder, fetch

KEYWORDS = ["yes", "no"]
NOTHING_THERE = "http://127.0.0.1:1"


def wav(pitch_hz: float) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, tone(pitch_hz), 16_000, format="WAV", subtype="PCM_16")
    return stream.getvalue()


@functools.cache
def clips() -> bytes:
    files = {
        f"./{word}/{speaker:08x}_nohash_0.wav": wav(300 * index + 10 * speaker)
        for index, word in enumerate(["yes", "no", "bed"], 1)
        for speaker in range(6)
    }
    return tar_gz(
        files | {"./_background_noise_/tap.wav": wav(50.0), "./testing_list.txt": b"yes/00000001_nohash_0.wav"}
    )


@functools.cache
def official_clips() -> bytes:
    folders = ["yes", "no", "_unknown_", "_silence_"]
    files = {f"./{folder}/{n}.wav": wav(400.0 + n) for folder in folders for n in range(3)}
    return tar_gz(files | {"./LICENSE": b"CC BY"})


def both(url: str) -> list[ArchiveSource]:
    return [source_of(clips(), url), source_of(official_clips(), url, OFFICIAL_TEST_FOLDER, "test.tar.gz")]


def test_the_published_archives_are_complete_and_named_by_the_command() -> None:
    assert set(DATA_SETS) == set(NAMES)
    for clips_archive, test_archive in DATA_SETS.values():
        assert (clips_archive.folder, test_archive.folder) == ("", OFFICIAL_TEST_FOLDER)
        for archive in (clips_archive, test_archive):
            assert archive.url.startswith("https://")
            assert len(bytes.fromhex(archive.sha256)) == 32
            assert test_archive.size_bytes < clips_archive.size_bytes
    assert len({archive.sha256 for archives in DATA_SETS.values() for archive in archives}) == 4


def test_a_fetched_data_set_trains_and_says_where_it_is_from(tmp_path: Path) -> None:
    out = tmp_path / "data"
    with serve(Served(data=clips())) as url:
        assert fetch(both(url)[:1], out) == out
    dataset = load_dataset(out, KEYWORDS, FeatureConfig())
    assert dataset.labels == ["_silence_", "_unknown_", "yes", "no"]
    assert len(dataset.names) == 18
    assert json.loads((out / "fetch.json").read_text())["archives"][0]["sha256"] == both("")[0].sha256
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_given_archives_are_checked_and_nothing_is_downloaded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(official_clips())
    (tmp_path / "b").write_bytes(clips())
    out = fetch(both(NOTHING_THERE), tmp_path / "data", given=[tmp_path / "a", tmp_path / "b"])
    assert len(list((out / "yes").iterdir())) == 6
    assert len(list((out / OFFICIAL_TEST_FOLDER / "yes").iterdir())) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "data"}


def test_given_archives_that_are_none_are_refused(tmp_path: Path) -> None:
    given = tmp_path / "given"
    for content, sentence in ((b"short", "has 5 bytes"), (bytes(len(clips())), "its sha256 is another")):
        given.write_bytes(content)
        with pytest.raises(KwsError, match=sentence):
            fetch(both(NOTHING_THERE), tmp_path / "data", given=[given])
    with pytest.raises(KwsError, match="absent: no such file"):
        fetch(both(NOTHING_THERE), tmp_path / "data", given=[tmp_path / "absent"])
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


def test_a_folder_that_holds_anything_is_refused_before_a_byte_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.wav").write_bytes(b"")
    served = Served(data=clips())
    with serve(served) as url, pytest.raises(KwsError, match="exists already"):
        fetch(both(url)[:1], tmp_path / "data")
    assert served.asked == []


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with serve(Served(data=clips())) as url:
        assert (fetch(both(url)[:1], tmp_path / "data") / "yes").is_dir()


def test_a_harmful_archive_leaves_nothing_behind_but_the_download(tmp_path: Path) -> None:
    harmful = tar_gz({"./yes/a.wav": wav(300.0), "../escaped": b"x"})
    with serve(Served(data=harmful)) as url, pytest.raises(KwsError, match="leads out"):
        fetch([source_of(harmful, url)], tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data.download"]


def test_an_archive_once_here_is_not_fetched_again_when_the_next_one_fails(tmp_path: Path) -> None:
    out = tmp_path / "data"
    served = Served(data=clips())
    with serve(served) as url, serve(Served(data=b"", statuses=[404])) as gone:
        with pytest.raises(KwsError, match="404"):
            fetch([both(url)[0], both(gone)[1]], out)
        assert not out.exists()
        assert [path.name for path in download_folder(out).iterdir()] == ["clips.tar.gz"]
        given = tmp_path / "given"
        given.write_bytes(official_clips())
        fetch(both(url), out, given=[given])
    assert len(served.asked) == 1
    assert not download_folder(out).exists()


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a").write_bytes(clips())
    with pytest.raises(KwsError, match="file"):
        fetch(both(NOTHING_THERE)[:1], tmp_path / "file" / "data", given=[tmp_path / "a"])


def test_a_name_too_long_for_the_disk_is_one_sentence(tmp_path: Path) -> None:
    archive = tar_gz({f"yes/{'x' * 300}.wav": b""})
    (tmp_path / "a").write_bytes(archive)
    with pytest.raises(KwsError, match=r"cannot be written .*too long"):
        fetch([source_of(archive, NOTHING_THERE)], tmp_path / "data", given=[tmp_path / "a"])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_disk_that_fills_up_while_unpacking_leaves_nothing(tmp_path: Path, small_disk: Path) -> None:
    archive = tar_gz({"yes/a.wav": os.urandom(3 << 20)})
    (tmp_path / "a").write_bytes(archive)
    with pytest.raises(KwsError, match=r"data: cannot be written \(No space left"):
        fetch([source_of(archive, NOTHING_THERE)], small_disk / "data", given=[tmp_path / "a"])
    assert list(small_disk.iterdir()) == []


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kws.fetch.download", interrupted)
    assert cli.main(["fetch", "speech-commands-v1", "--out", str(tmp_path / "data")]) == 130
    assert "keeps what arrived: run the same command again" in capsys.readouterr().err


def test_the_command_refuses_a_wrong_archive_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine.tar.gz").write_bytes(clips())
    command = ["-m", "kws.cli", "fetch", "speech-commands-v2", "--out", tmp_path / "data"]
    arguments = [sys.executable, *command, "--archive", tmp_path / "mine.tar.gz"]
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("kws: ")
    assert result.stderr.count("\n") == 1
    assert "2,428,923,189" in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(clips())
    (tmp_path / "b").write_bytes(official_clips())
    return fetch(both(NOTHING_THERE), tmp_path / "data", given=[tmp_path / "a", tmp_path / "b"])


def test_the_official_clips_test_a_model_of_exactly_their_labels(
    fetched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = load_dataset(fetched, KEYWORDS, FeatureConfig())
    test = dataset.evaluation_clips("testing")
    assert test.names[0] == "_official_test_12_/_silence_/0.wav"
    assert [dataset.labels[target] for target in test.targets] == [label for label in dataset.labels for _ in range(3)]
    assert test.pcm.shape == (12, 16_000)
    assert "The test clips are the 12 of" in capsys.readouterr().err
    assert not any("official" in name for name in dataset.evaluation_clips("validation").names)


@pytest.mark.parametrize(("words", "silence"), [(["yes"], True), (None, True), (["yes", "no"], False)])
def test_other_labels_are_tested_on_the_listed_clips(fetched: Path, words: list[str] | None, silence: bool) -> None:
    dataset = load_dataset(fetched, words, FeatureConfig(), silence=silence)
    names = dataset.evaluation_clips("testing").names
    assert "yes/00000001_nohash_0.wav" in names
    assert not any("official" in name for name in names)


def test_a_damaged_official_clip_is_an_error_not_a_smaller_test(fetched: Path) -> None:
    (fetched / OFFICIAL_TEST_FOLDER / "yes" / "1.wav").write_bytes(b"RIFF")
    with pytest.raises(KwsError, match=r"not whole: .*1\.wav"):
        load_dataset(fetched, KEYWORDS, FeatureConfig())
    assert load_dataset(fetched, KEYWORDS, FeatureConfig(), needed=["training"]).official_test is None
