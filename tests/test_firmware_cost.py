"""The figures that `kws headers` prints are those of the firmware."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_tflite
from conftest import run_kws
from front_end import signals
from test_boards import write_wav
from toolchains import require

from export.firmware_cost import CORE_NAMES, FRAME_INSTRUCTIONS, firmware_cost
from export.firmware_model import read_firmware_model
from export.headers import render_firmware
from kws.config import FeatureConfig
from kws.detector import DetectorParams
from scripts import boards

LABELS = ["_silence_", "_unknown_", "yes"]
DETECTOR = DetectorParams(smoothing_ms=500)


@pytest.mark.firmware
@pytest.mark.parametrize("board", [boards.M4F, boards.M55], ids=["M4F", "M55"])
def test_bytes_and_instructions_are_those_on_the_board(tmp_path: Path, board: boards.Board) -> None:
    for tool, packages in boards.TOOLS.items():
        require(tool, packages)
    model_file = tiny_tflite.write_tiny_build(tmp_path / "build", LABELS)
    render_firmware(model_file, tmp_path / "out", DETECTOR)
    cost = firmware_cost(read_firmware_model(model_file), DETECTOR)
    assert cost is not None
    folder = boards.build(tmp_path / "out", tmp_path / "b", board)
    found = boards.figures(board, folder, write_wav(tmp_path / "a.wav", signals()["chirp in a room"]))
    assert cost.front_end == found["frontend_state_bytes"] + found["frontend_scratch_bytes"]
    assert cost.window == found["window_bytes"]
    assert cost.detector == found["detector_bytes"]
    core = {name: core for core, name in CORE_NAMES.items()}[board.core]
    assert found["frame_slowest_us"] / boards.US_PER_INSTRUCTION == pytest.approx(FRAME_INSTRUCTIONS[core], rel=0.02)


def test_a_second_has_its_frames_and_inferences(tmp_path: Path) -> None:
    model = read_firmware_model(tiny_tflite.write_tiny_build(tmp_path / "build", LABELS))
    cost, rare = (firmware_cost(model, DetectorParams(stride_ms=stride_ms)) for stride_ms in (100, 200))
    assert cost is not None and rare is not None
    assert cost.features_a_second["cortex_m4"] == 100 * FRAME_INSTRUCTIONS["cortex_m4"]
    assert rare.inference_a_second["cortex_m4"] == pytest.approx(cost.inference_a_second["cortex_m4"] / 2, abs=1)
    assert model.features is not None
    large = replace(model, features=FeatureConfig(fft_size=1024))
    found = firmware_cost(large, DETECTOR)
    assert found is not None
    assert found.features_a_second["cortex_m4"] == round(100 * FRAME_INSTRUCTIONS["cortex_m4"] * 20 / 9)


def test_a_model_without_features_has_no_such_figures(tmp_path: Path) -> None:
    model = read_firmware_model(tiny_tflite.write_tiny_build(tmp_path / "build", LABELS))
    assert firmware_cost(replace(model, features=None), DETECTOR) is None


def test_headers_prints_the_figures_and_takes_a_detector(tmp_path: Path) -> None:
    model = tiny_tflite.write_tiny_build(tmp_path / "build", LABELS)
    (tmp_path / "d.json").write_text('{"stride_ms": 50, "thresholds": {"yes": 0.5}}')
    printed = run_kws("headers", model, "--out", tmp_path / "out", "--detector", tmp_path / "d.json").stdout
    assert printed.startswith("Flash: model ")
    assert "Cortex-M55: " in printed
    params = (tmp_path / "out/generated/detector_params.h").read_text()
    assert "kInferenceStrideFrames = 5," in params
    assert "16384" in (tmp_path / "out/generated/detector_params.cc").read_text()
    (tmp_path / "d.json").write_text('{"stride_ms": 0}')
    failed = run_kws("headers", model, "--out", tmp_path / "new", "--detector", tmp_path / "d.json", check=False)
    assert failed.returncode == 1
    assert "d.json: The detector's stride_ms is 0; give whole milliseconds from 1 to 60000." in failed.stderr
    assert not (tmp_path / "new").exists()
