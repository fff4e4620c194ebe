"""`kws headers`: renders the firmware."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command

if TYPE_CHECKING:
    from kws.commands.arguments import Commands


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "headers", _run, "Render the firmware folder for a TFLite model of kws quantize.")
    parser.add_argument("model", type=Path, metavar="MODEL", help="BUILD/model.int8.tflite or model.int16.tflite")
    parser.add_argument("--out", type=Path, required=True, metavar="FIRMWARE", help="folder for the firmware")
    parser.add_argument(
        "--detector",
        type=Path,
        metavar="FILE",
        help="JSON: thresholds and times of the detector (default: its own)",
    )


def _run(options: argparse.Namespace) -> Path:
    from export.firmware_cost import firmware_cost
    from export.firmware_model import read_firmware_model
    from export.headers import render_firmware
    from kws.detector import DetectorParams, read_detector

    out: Path = options.out
    detector = read_detector(options.detector) if options.detector else None
    render_firmware(options.model, out, detector)
    cost = firmware_cost(read_firmware_model(options.model), detector or DetectorParams())
    if cost is not None:
        print("\n".join(cost.lines()))
    return out
