from __future__ import annotations

import csv
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kws.errors import KwsError
from kws.training.log import TrainingLog, read_log

AWKWARD = {"epoch": 1, "loss": 0.1 + 0.2, "rate": 1e-300, "accuracy": 1.0, "clips": 2**60}


def figures(epoch: int) -> dict[str, float | int]:
    return {"epoch": epoch, "loss": 1 / (3 * epoch), "accuracy": epoch / 7}


def write_log(path: Path, epochs: int) -> None:
    with TrainingLog(path) as log:
        for epoch in range(1, epochs + 1):
            log.epoch(figures(epoch))


def test_numbers_read_back_exactly_and_with_their_kind(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "run" / "training.csv") as log:
        log.epoch(AWKWARD)
    with TrainingLog.resume(tmp_path / "run" / "training.csv", 1) as log:
        assert log.history == [AWKWARD]
        assert [type(value) for value in log.history[0].values()] == [int, float, float, float, int]


def test_the_log_of_a_training_that_has_ended_is_read_whole(tmp_path: Path) -> None:
    write_log(tmp_path / "training.csv", 3)
    assert [row["epoch"] for row in read_log(tmp_path / "training.csv")] == [1, 2, 3]


@pytest.mark.parametrize("content", [b"epoch,loss\n1,much\n", b"\xff\xfe", b"epoch,loss\n1,2,3\n", b"epoch,loss\n1\n"])
def test_what_is_no_log_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "training.csv"
    path.write_bytes(content)
    with pytest.raises(KwsError, match=rf"^{re.escape(str(path))}: is no log of a training; "):
        read_log(path)


def test_a_loss_that_is_no_number_is_logged_too(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "training.csv") as log:
        log.epoch({"epoch": 1, "loss": math.nan, "gain": -math.inf})
    _, loss, gain = TrainingLog.resume(tmp_path / "training.csv", 1).history[0].values()
    assert math.isnan(loss)
    assert gain == -math.inf


def test_other_programs_read_it_as_csv_with_a_header(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "training.csv") as log:
        log.epoch({"epoch": 1, 'loss, "mean"': 0.5})
    with (tmp_path / "training.csv").open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [{"epoch": "1", 'loss, "mean"': "0.5"}]


def test_a_killed_run_leaves_every_epoch_that_it_ended(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom kws.training.log import TrainingLog, read_log\n"
        "log = TrainingLog(Path(sys.argv[1]))\n"
        "for epoch in (1, 2): log.epoch({'epoch': epoch, 'loss': 0.25})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "training.csv")], env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "training.csv").read_bytes() == b"epoch,loss\n1,0.25\n2,0.25\n"


def test_resuming_cuts_off_what_came_after_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "training.csv"
    write_log(path, 5)
    with TrainingLog.resume(path, 3) as log:
        assert log.history == [figures(1), figures(2), figures(3)]
        log.epoch(figures(4))
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["epoch", "1", "2", "3", "4"]


def test_a_row_that_was_being_written_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "training.csv"
    write_log(path, 3)
    path.write_text(path.read_text()[:-5])
    with pytest.raises(KwsError, match=r"training\.csv: has 2 of the 3 epochs"):
        TrainingLog.resume(path, 3)
    with TrainingLog.resume(path, 2) as log:
        log.epoch(figures(3))
    assert TrainingLog.resume(path, 3).history == [figures(1), figures(2), figures(3)]


def test_resuming_before_the_first_epoch_and_training_anew_both_start_empty(tmp_path: Path) -> None:
    path = tmp_path / "training.csv"
    write_log(path, 2)
    TrainingLog(path).close()
    assert path.read_text() == ""
    path.unlink()
    with TrainingLog.resume(path, 0) as log:
        log.epoch(figures(1))
    assert path.read_text().startswith("epoch,loss,accuracy\n1,")
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "no such file, though 2 epochs were trained; train again without --resume"),
        (b"epoch,loss\n1,0.5\n", "has 1 of the 2 epochs"),
        (b"", "has 0 of the 2 epochs"),
        (b"epoch,loss\n1,0.5\n2,much\n", "has a row that is not one number a column"),
        (b"epoch,loss\n1,0.5\n2\n", "has a row that is not one number a column"),
        (b"epoch,loss\n1,0.5\n3,0.5\n", "its epochs are not 1 to 2 in order"),
        (b"loss\n0.5\n0.5\n", "its epochs are not 1 to 2 in order"),
        (b"epoch,loss\n1,\xff\n2,0.5\n", "is no text"),
    ],
)
def test_a_damaged_log_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "training.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KwsError, match=sentence):
        TrainingLog.resume(path, 2)
    assert (path.read_bytes() if path.exists() else None) == content


def test_other_columns_than_the_file_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.csv"
    write_log(path, 1)
    with (
        TrainingLog.resume(path, 1) as log,
        pytest.raises(KwsError, match="has the columns epoch, loss, accuracy, but this training gives epoch, loss;"),
    ):
        log.epoch({"epoch": 2, "loss": 0.5})
    assert len(path.read_text().splitlines()) == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(KwsError, match="run: cannot write here"):
        TrainingLog(tmp_path / "run" / "training.csv")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "training.csv"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*training\.csv'"), TrainingLog(path) as log:
        log.epoch(figures(1))
    assert log.history == []
