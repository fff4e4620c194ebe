from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
from conftest import PATH_KEYWORDS

from kws.errors import KwsError
from scripts import leaderboard
from scripts.kws_runs import exit_code


def test_each_data_set_has_every_width_and_activation_in_a_folder_of_its_own(tmp_path: Path) -> None:
    found = leaderboard.entries(
        tmp_path, ["a/english:yes,no", "arabic"], ["bcresnet-1", "bcresnet-2"], ["swish", "relu"]
    )
    assert len({entry.folder for entry in found}) == len(found) == 8
    assert [(entry.data, entry.words) for entry in found[::4]] == [(Path("a/english"), "yes,no"), (Path("arabic"), "")]
    assert found[3].folder == tmp_path / "english" / "bcresnet-2-relu"
    with pytest.raises(KwsError, match="Two data sets are called english"):
        leaderboard.entries(tmp_path, ["a/english", "b/english:yes"], ["bcresnet-1"], ["swish"])


@pytest.mark.slow
def test_what_is_trained_is_quantized_judged_and_not_made_again(
    trained_run: Path, spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "board" / spoken.name / "bcresnet-1-swish"
    folder.mkdir(parents=True)
    (folder / "run").symlink_to(trained_run)
    given = ["leaderboard", str(tmp_path / "board"), f"{spoken}:{PATH_KEYWORDS}", "--only-trained"]
    monkeypatch.setattr(sys, "argv", given)
    assert exit_code(leaderboard.main) == 0
    headings, _, cells = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.strip().splitlines()[-3:])
    assert headings == leaderboard.HEADINGS
    parameters = json.loads((trained_run / "metrics.json").read_text())["params"]
    assert cells[:4] == [spoken.name, "bcresnet-1", "swish", f"{parameters:,}"]
    assert (tmp_path / "board" / "leaderboard.md").read_text().count("\n") == 3
    assert (tmp_path / "board" / spoken.name / "comparison.svg").is_file()
    made = (folder / "build" / "manifest.json").stat().st_mtime_ns
    assert exit_code(leaderboard.main) == 0
    assert (folder / "build" / "manifest.json").stat().st_mtime_ns == made


@pytest.mark.slow
def test_another_activation_starts_from_the_swish_model_of_its_width(
    trained_run: Path, spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kws.checkpoint import load_checkpoint

    monkeypatch.setattr(leaderboard, "EPOCHS_OF_OTHERS", 1)
    [entry] = leaderboard.entries(tmp_path, [f"{spoken}:{PATH_KEYWORDS}"], ["bcresnet-1"], ["relu"])
    (tmp_path / spoken.name / "bcresnet-1-swish").mkdir(parents=True)
    (tmp_path / spoken.name / "bcresnet-1-swish" / "run").symlink_to(trained_run)
    assert load_checkpoint(leaderboard.checkpoint_of(entry)).model.activation == "relu"
    metrics = json.loads((entry.folder / "run" / "metrics.json").read_text())
    assert (metrics["best_epoch"], len(metrics["history"])) == (1, 1)
    assert hashlib.sha256((trained_run / "checkpoint.pt").read_bytes()).hexdigest().startswith(metrics["start"])


def test_nothing_trained_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["leaderboard", str(tmp_path), "data", "--only-trained"])
    assert exit_code(leaderboard.main) == 1
    assert capsys.readouterr().err == "error: Nothing is trained yet; leave out --only-trained.\n"
