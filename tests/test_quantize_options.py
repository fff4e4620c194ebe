"""What is chosen on the command line reaches the conversion."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
from networks import clips_for, ds_cnn

from kws.cli import _parser
from kws.commands.quantize import _quantize_options
from quantize.options import QuantizeOptions
from quantize.pipeline import prepare, quantize

PLAIN = QuantizeOptions(
    ranges="min-max", weight_ranges="min-max", equalization=False, bias_correction=False, rounding="nearest"
)


def chosen(*flags: str) -> QuantizeOptions:
    return _quantize_options(_parser().parse_args(["quantize", "checkpoint.pt", "--data", "D", "--out", "B", *flags]))


def test_without_flags_the_defaults_are_taken() -> None:
    assert chosen() == QuantizeOptions()


def test_each_flag_sets_its_option() -> None:
    flags = ["--ranges=entropy", "--weight-ranges=mse", "--no-equalization", "--no-bias-correction"]
    expected = replace(PLAIN, ranges="entropy", weight_ranges="mse", rounding="adaptive", calibration_clips=7)
    assert chosen(*flags, "--rounding=adaptive", "--calibration-clips=7") == expected


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return ds_cnn(18)


def converted(model: onnx.ModelProto, options: QuantizeOptions) -> onnx.ModelProto:
    calibration = clips_for(model, 300) ** 3  # heavy tails: something to cut
    return quantize(prepare(model, calibration, options), calibration, options)


@pytest.mark.parametrize(
    "options",
    [
        replace(PLAIN, ranges="percentile"),
        replace(PLAIN, ranges="entropy"),
        replace(PLAIN, ranges="mse"),
        replace(PLAIN, weight_ranges="mse"),
        replace(PLAIN, equalization=True),
        replace(PLAIN, bias_correction=True),
        replace(PLAIN, rounding="adaptive"),
    ],
    ids=repr,
)
def test_each_option_changes_the_quantized_model(model: onnx.ModelProto, options: QuantizeOptions) -> None:
    assert converted(model, options) != converted(model, PLAIN)
    assert converted(model, options) == converted(model, options)


def test_without_equalization_the_float_model_is_only_rewritten(model: onnx.ModelProto) -> None:
    calibration = clips_for(model, 30)
    names = [
        {tensor.name for tensor in prepare(model, calibration, options).graph.initializer}
        for options in (PLAIN, replace(PLAIN, equalization=True))
    ]
    assert not any("equalized" in name for name in names[0])
    assert any("equalized" in name for name in names[1])
