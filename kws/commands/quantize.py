"""`kws quantize`: makes an integer model and proves it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command, positive
from kws.pretrained import NAMES, is_pretrained, model_path

if TYPE_CHECKING:
    from kws.commands.arguments import Commands
    from quantize.options import QuantizeOptions


def add_parser(commands: Commands) -> None:
    from quantize.options import GOALS, QuantizeOptions

    defaults = QuantizeOptions()
    parser = add_command(commands, "quantize", _run, "Checkpoint or ONNX -> QDQ ONNX -> integer TFLite, each proven.")
    parser.add_argument(
        "model",
        type=model_path,
        metavar="MODEL",
        help=f"RUN/checkpoint.pt of kws train, or {' or '.join(NAMES)}, or a float .onnx",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DATA",
        help="of a checkpoint: the folder it was trained on (default: none; a model that comes with kws has clips)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="NPY",
        help="of an ONNX model: typical inputs, float32 (n, ...) (default: none)",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="TXT", help="of an ONNX model: a label a line (default: class_0, class_1, ...)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="BUILD", help="folder for models and manifest")
    parser.add_argument(
        "--calibration-clips",
        type=positive,
        default=defaults.calibration_clips,
        metavar="N",
        help=f"training clips or rows of NPY that set the ranges (default: {defaults.calibration_clips})",
    )
    parser.add_argument(
        "--activations",
        choices=["int8", "int16"],
        default=defaults.activations,
        help="what the device computes with; int16 is closer to float, larger and slower, weights stay int8 "
        f"(default: {defaults.activations})",
    )
    parser.add_argument(
        "--optimize",
        choices=GOALS,
        default=defaults.optimize,
        help=f"what to keep small: instructions, arena, file, or all three (default: {defaults.optimize})",
    )
    _add_methods(parser)


def _add_methods(parser: argparse.ArgumentParser) -> None:
    from quantize.options import RANGES, ROUNDINGS, WEIGHT_RANGES, QuantizeOptions

    defaults = QuantizeOptions()
    methods = parser.add_argument_group("methods")
    for name, choices, help_text in (
        ("ranges", RANGES, "how the ranges of activations are chosen"),
        ("weight-ranges", WEIGHT_RANGES, "how int8 ranges of weights are chosen"),
        ("rounding", ROUNDINGS, "of weights: each to the nearest step, or together for the output of their layer"),
    ):
        default = getattr(defaults, name.replace("-", "_"))
        methods.add_argument(f"--{name}", choices=choices, default=default, help=f"{help_text} (default: {default})")
    for name, help_text in (
        ("equalization", "leave channels their ranges (default: bring them to like ones)"),
        ("bias-correction", "leave the mean error of each channel (default: take it off its bias)"),
    ):
        methods.add_argument(f"--no-{name}", dest=name.replace("-", "_"), action="store_false", help=help_text)


def _run(options: argparse.Namespace) -> Path:
    comes_with_kws = is_pretrained(options.model) and options.data is None
    if not comes_with_kws and (options.data is None) == (options.calibration is None):
        options.refuse(
            "give --data with a checkpoint of your own, or --calibration with an ONNX model; only "
            f"{' and '.join(NAMES)} need neither"
        )
    if options.labels is not None and options.calibration is None:
        options.refuse("--labels goes with --calibration and an ONNX model; a checkpoint knows its labels")
    if options.calibration is None:
        from export.from_checkpoint import build_checkpoint

        return build_checkpoint(options.model, options.data, options.out, _quantize_options(options))
    from export.from_onnx import build_onnx

    chosen = _quantize_options(options)
    return build_onnx(options.model, options.calibration, options.out, chosen, labels_path=options.labels)


def _quantize_options(options: argparse.Namespace) -> QuantizeOptions:
    from quantize.options import QuantizeOptions

    if options.activations == "int16" and options.optimize != QuantizeOptions().optimize:
        options.refuse("--optimize chooses between int8 forms; leave it out with --activations int16")
    return QuantizeOptions(
        **{field.name: getattr(options, field.name) for field in dataclasses.fields(QuantizeOptions)}
    )
