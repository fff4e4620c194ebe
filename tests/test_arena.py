"""The arena that the firmware sets aside is what TFLM itself asks for."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import tiny_tflite
from tflite_micro.python.tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from export.arena import (
    ARENA_MARGIN_BYTES,
    estimate_32_bit_arena_bytes,
    firmware_arena_bytes,
    measure_arena_bytes,
)
from kws.config import FeatureConfig
from kws.errors import KwsError


def test_the_model_runs_in_the_measured_arena_and_not_in_a_smaller_one() -> None:
    model = tiny_tflite.tiny_model(features=FeatureConfig(clip_samples=480 + 160 * 97))
    arena_bytes = measure_arena_bytes(model)
    assert arena_bytes % 16 == 0
    assert arena_bytes > 40 * 98
    runtime.Interpreter.from_bytes(model, arena_size=arena_bytes).invoke()
    with pytest.raises(RuntimeError):
        runtime.Interpreter.from_bytes(model, arena_size=arena_bytes - 64)


def test_the_firmware_sets_aside_the_margin_and_stays_aligned() -> None:
    assert firmware_arena_bytes(1600) == 1600 + ARENA_MARGIN_BYTES
    assert firmware_arena_bytes(1601) % 16 == 0


@pytest.mark.parametrize(
    "model",
    [b"no model", tiny_tflite.tiny_model(op=schema.BuiltinOperator.GELU)],
    ids=["crashes TFLM", "op unknown to TFLM"],
)
def test_a_model_that_tflm_cannot_run_is_a_sentence(model: bytes) -> None:
    with pytest.raises(KwsError, match=r"^thing\.tflite: TensorFlow Lite Micro cannot run it"):
        measure_arena_bytes(model, source="thing.tflite")


def test_the_estimate_for_a_32_bit_target_is_what_was_measured_on_one() -> None:
    with (Path(__file__).parent / "data" / "measured_arenas.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 5
    for row in rows:
        estimate = estimate_32_bit_arena_bytes(int(row["arena_64_bit_host"]), int(row["nodes"]), int(row["tensors"]))
        assert estimate == pytest.approx(int(row["arena_m4"]), rel=0.013), row["model"]
