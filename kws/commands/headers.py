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
    from export.headers import render_firmware
    from kws.detector import read_detector

    out: Path = options.out
    render_firmware(options.model, out, read_detector(options.detector) if options.detector else None)
    return out
