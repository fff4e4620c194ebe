"""What a user meets: exit codes, one sentence for bad input, nothing half-written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Kws, disk_of, write_tones

from kws import cli
from kws.checkpoint import Checkpoint, save_checkpoint
from kws.config import FeatureConfig, ModelConfig, TrainConfig
from kws.model import BCResNet

COMMANDS = ("fetch", "synth", "prepare", "train", "quantize", "verify", "benchmark", "detect", "inspect", "headers")


def assert_one_sentence(message: str, *parts: str) -> None:
    lines = [line for line in message.splitlines() if line.startswith("kws: ")]
    assert len(lines) == 1, message
    assert "Traceback" not in message
    assert lines[0].endswith(".")
    for part in parts:
        assert part in lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main([command, "-h"])
    assert exited.value.code == 0
    text = capsys.readouterr().out
    for action in next(p for p in cli._parser()._subparsers._group_actions)._name_parser_map[command]._actions:
        assert action.help, f"{command} {action.dest} is not explained"
        if action.option_strings and not action.required and action.nargs != 0:
            assert "default" in action.help, f"{command} {action.dest} does not state its default"
    assert "usage: kws" in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["fetch", "speech-commands-v2"],
        ["fetch", "everything", "--out", "DATA"],
        ["prepare", "SRC"],
        ["train", "DATA"],
        ["train", "DATA", "--out", "RUN", "--epochs", "0"],
        ["train", "DATA", "--out", "RUN", "--epochs", "many"],
        ["train", "DATA", "--out", "RUN", "--words", ","],
        ["train", "DATA", "--out", "RUN", "--model", "bcresnet-7"],
        ["train", "DATA", "--out", "RUN", "--seed", "-1"],
        ["quantize", "checkpoint.pt", "--out", "BUILD"],
        ["inspect", "model.tflite", "--float", "model.onnx"],
        ["inspect", "model.tflite", "--data", "DATA"],
        ["verify"],
        ["verify", "BUILD", "--clips", "0"],
        ["verify", "BUILD", "--data", "DATA", "--inputs", "x.npy"],
        ["quantize", "checkpoint.pt", "--data", "DATA", "--calibration", "x.npy", "--out", "BUILD"],
        ["quantize", "checkpoint.pt", "--data", "DATA", "--labels", "labels.txt", "--out", "BUILD"],
        ["quantize", "model.onnx", "--labels", "labels.txt", "--out", "BUILD"],
        ["benchmark", "BUILD"],
        ["benchmark", "BUILD", "--inputs", "x.npy"],
        ["benchmark", "BUILD", "--targets", "y.npy"],
        ["benchmark", "BUILD", "--data", "DATA", "--inputs", "x.npy", "--targets", "y.npy"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main(arguments)
    assert exited.value.code == 2
    assert "usage: kws" in capsys.readouterr().err


def test_a_missing_folder_exits_with_1_and_a_sentence(tmp_path: Path, kws: Kws) -> None:
    result = kws("train", tmp_path / "absent", "--out", tmp_path / "run", check=False)
    assert result.returncode == 1
    assert_one_sentence(result.stderr, "absent", "no such folder")
    assert result.stdout == ""


def test_each_command_names_the_file_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x89PNG nothing of ours" * 50)
    data = write_tones(tmp_path / "data", ["left", "right"], speakers=4)
    out = tmp_path / "out"
    for arguments in (
        ["fetch", "speech-commands-v2", "--out", garbage],
        ["fetch", "speech-commands-v2", "--out", out, "--archive", garbage],
        ["synth", garbage],
        ["prepare", garbage, "--out", out],
        ["prepare", data, "--out", garbage],
        ["prepare", data, "--out", out, "--noise", garbage, "--workers", "1"],
        ["train", garbage, "--out", out],
        ["train", data, "--out", garbage],
        ["quantize", garbage, "--data", data, "--out", out],
        ["quantize", garbage, "--calibration", garbage, "--out", out],
        ["headers", garbage, "--out", out],
        ["headers", tmp_path / "garbage.tflite", "--out", out],
        ["benchmark", garbage, "--data", data],
        ["benchmark", data, "--data", data, "--out", out],
        ["inspect", garbage, "--out", out / "report.json"],
        ["inspect", tmp_path / "absent.tflite"],
    ):
        assert cli.main(list(map(str, arguments))) == 1, arguments
        captured = capsys.readouterr()
        assert_one_sentence(captured.err, str(tmp_path))
        assert "Wrote" not in captured.out
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]
    assert not out.exists() or not list(out.iterdir())


def test_a_tflite_file_that_is_none_is_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.tflite").write_bytes(b"\x89PNG, not TFL3")
    for name, wrong in (("model.tflite", "is no TFLite model"), ("absent.tflite", "cannot be read")):
        assert cli.main(["headers", str(tmp_path / name), "--out", str(tmp_path / "firmware")]) == 1
        assert_one_sentence(capsys.readouterr().err, name, wrong)
    assert not (tmp_path / "firmware").exists()


def test_a_full_disk_is_one_sentence(
    tones: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "checkpoint.pt")

    monkeypatch.setattr("kws.training.loop.train", full)
    assert cli.main(["train", str(tones), "--out", "run"]) == 1
    assert_one_sentence(capsys.readouterr().err, "checkpoint.pt", "No space left", "free some space")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 KiB."""
    with disk_of("16k", tmp_path / "disk") as disk:
        yield disk


def test_a_disk_that_fills_up_leaves_nothing_half_written(
    tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ModelConfig(classes=2)
    checkpoint = Checkpoint(
        labels=["a", "b"],
        features=FeatureConfig(),
        model=config,
        train=TrainConfig(),
        weights=BCResNet(config).state_dict(),
    )

    def save(data: Path, out: Path, **_: object) -> None:
        save_checkpoint(out / "checkpoint.pt", checkpoint)

    monkeypatch.setattr("kws.training.loop.train", save)
    assert cli.main(["train", "data", "--out", str(tiny_disk)]) == 1
    assert_one_sentence(capsys.readouterr().err, "checkpoint.pt", "free some space")
    assert list(tiny_disk.iterdir()) == []


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kws.training.loop.train", interrupted)
    assert cli.main(["train", "data", "--out", "run"]) == 130
    assert_one_sentence(capsys.readouterr().err, "Interrupted")


def test_configs_state_their_defaults_in_one_place() -> None:
    assert FeatureConfig().frames == 98
    assert ModelConfig(classes=12).base_channels == 8
    assert f"(default of the short recipe: {TrainConfig().epochs})" in cli._parser().format_help() + _help_of("train")


def _help_of(command: str) -> str:
    group = cli._parser()._subparsers._group_actions[0]
    return " ".join(group._name_parser_map[command].format_help().split())
