"""`kws headers`: renders the firmware."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command

if TYPE_CHECKING:
    from kws.commands.arguments import Commands

# As in export.headers, which takes too long to import for a help text.
TARGETS = ("cmake", "esp-idf", "zephyr", "arduino", "platformio")


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "headers", _run, "Render the firmware folder for a TFLite model of kws quantize.")
    parser.add_argument("model", type=Path, metavar="MODEL", help="BUILD/model.int8.tflite or model.int16.tflite")
    parser.add_argument("--out", type=Path, required=True, metavar="FIRMWARE", help="folder for the firmware")
    parser.add_argument(
        "--target",
        choices=TARGETS,
        default=TARGETS[0],
        help="cmake: a folder that builds by itself; else a package for a board's own tools (default: %(default)s)",
    )
    parser.add_argument(
        "--detector",
        type=Path,
        metavar="FILE",
        help="JSON: thresholds and times of the detector (default: its own)",
    )


def _run(options: argparse.Namespace) -> Path:
    from export.board_package import BOARD_PACKAGES, package_notes
    from export.firmware_cost import firmware_cost
    from export.firmware_model import read_firmware_model
    from export.headers import render_firmware
    from kws.detector import DetectorParams, read_detector

    out: Path = options.out
    detector = read_detector(options.detector) if options.detector else None
    render_firmware(options.model, out, detector, options.target)
    model = read_firmware_model(options.model)
    cost = firmware_cost(model, detector or DetectorParams())
    if cost is not None:
        print("\n".join(cost.lines()))
    if options.target in BOARD_PACKAGES:
        print("\n".join(package_notes(BOARD_PACKAGES[options.target], model, detector or DetectorParams())))
    return out
