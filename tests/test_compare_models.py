from __future__ import annotations

import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import write_tones
from made_benchmarks import benchmark, costs

from export.evaluate import judge_data
from kws.checkpoint import Checkpoint, save_checkpoint
from kws.config import ModelConfig, TrainConfig, features_with_hop
from kws.model import BCResNet
from quantize.options import QuantizeOptions
from scripts import compare_models
from scripts.compare_models import HEADINGS, Judged, Kind

KIND = Kind(model="bcresnet-1", activation="swish", hop_ms=10.0)


def untrained(labels: list[str], hop_ms: int = 10) -> Checkpoint:
    model = ModelConfig(classes=len(labels), activation="relu")
    return Checkpoint(
        labels=labels,
        features=features_with_hop(hop_ms),
        model=model,
        train=TrainConfig(seed=4),
        weights=BCResNet(model).state_dict(),
    )


def saved(path: Path, labels: list[str]) -> Path:
    save_checkpoint(path, untrained(labels))
    return path


def judged(seed: int, of_float: float, of_int8: float, model_bytes: int = 59_000) -> Judged:
    instructions = {"cortex_m4": 40_000_000 + seed * 2_000_000, "cortex_m55": 20_000_000}
    result = replace(
        benchmark(),
        accuracy={"float": of_float, "int8": of_int8},
        agreements={"float": 1.0, "int8": of_int8},
        sqnrs_db={"float": math.inf, "int8": 30.0 + seed},
        costs=costs(model_bytes, instructions),
    )
    return Judged(seed=seed, benchmark=result, arena_bytes=80_000, seconds=10.0 * seed)


def cells(judged_models: list[Judged]) -> dict[str, str]:
    return dict(zip(HEADINGS, compare_models.row(KIND, judged_models), strict=True))


def refusal(
    arguments: list[Path | str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """What the command says where it fails, line by line."""
    monkeypatch.setattr(sys, "argv", ["compare_models", *map(str, arguments)])
    assert compare_models.main() == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_a_row_is_the_mean_of_its_seeds_and_the_span_of_what_they_lost() -> None:
    found = cells([judged(1, 0.94, 0.93), judged(2, 0.92, 0.925, model_bytes=59_100)])
    assert found == {
        "model": "bcresnet-1",
        "activation": "swish",
        "hop": "10 ms",
        "seeds": "1, 2",
        "float": "93.00%",
        "int8": "92.75%",
        "int8 - float, points": "-0.25 (-1.00 .. +0.50)",
        "same answer": "92.75%",
        "logit SQNR": "31.5 dB",
        "`.tflite`, bytes": "59,000 .. 59,100",
        "arena on Cortex-M4, bytes": "80,000",
        "instructions on Cortex-M4": "43.0 M",
        "on Cortex-M55": "20.0 M",
        "seconds": "15",
    }


def test_one_seed_has_no_span() -> None:
    assert cells([judged(0, 0.5, 0.5)])["int8 - float, points"] == "+0.00"


def test_only_seeds_share_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = untrained(["a", "b"])
    kinds = {
        "seed": replace(narrow, train=TrainConfig(seed=5)),
        "hop": untrained(["a", "b"], hop_ms=20),
        "activation": replace(narrow, model=replace(narrow.model, activation="swish")),
    }
    paths = [saved(tmp_path / "narrow.pt", ["a", "b"])]
    for name, checkpoint in kinds.items():
        paths.append(tmp_path / f"{name}.pt")
        save_checkpoint(paths[-1], checkpoint)
    monkeypatch.setattr(compare_models, "judge", lambda path, seed, data, options: judged(seed, 0.5, 0.5))
    table = compare_models.compare(paths, tmp_path, QuantizeOptions()).splitlines()
    assert [line.split(" | ")[1:4] for line in table[2:]] == [
        ["relu", "10 ms", "4, 5"],
        ["relu", "20 ms", "4"],
        ["swish", "10 ms", "4"],
    ]


@pytest.mark.slow
def test_a_trained_model_has_the_figures_of_its_build(
    trained_run: Path, built: Path, spoken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = []

    def build_again(checkpoint: Path, data: Path, out: Path, options: QuantizeOptions) -> Path:
        goals.append(options.optimize)
        return Path(shutil.copytree(built, out))

    monkeypatch.setattr(compare_models, "build_checkpoint", build_again)
    found = compare_models.judge(trained_run / "checkpoint.pt", 0, spoken, QuantizeOptions(optimize="ram"))
    assert goals == ["ram"]
    assert found.benchmark == judge_data(built, spoken)
    assert found.benchmark.accuracy["int8"] > 0.5
    assert 0 < found.arena_bytes < found.benchmark.costs.arena_bytes


def test_a_missing_checkpoint_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [saved(tmp_path / "there.pt", ["a", "b"]), tmp_path / "missing.pt"]
    said = refusal([*paths, "--data", tmp_path], capsys, monkeypatch)
    assert len(said) == 1 and f"error: {paths[1]}: no such checkpoint" in said[0]


def test_checkpoints_of_other_words_are_refused_before_any_is_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = saved(tmp_path / "1.pt", ["a", "b"]), saved(tmp_path / "2.pt", ["a", "c"])
    said = refusal([first, second, "--data", tmp_path], capsys, monkeypatch)
    assert said == [f"error: {second}: knows other labels than {first}; compare checkpoints of the same words."]


def test_data_of_other_labels_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, checkpoint = write_tones(tmp_path / "data", ["a", "b", "c"]), saved(tmp_path / "1.pt", ["a", "b"])
    *_, said = refusal([checkpoint, "--data", data], capsys, monkeypatch)
    assert said.startswith(f"error: {data}: gives the labels _unknown_, a, b, but the model was trained for a, b;")
