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


def _run(options: argparse.Namespace) -> Path:
    from export.headers import render_firmware

    out: Path = options.out
    render_firmware(options.model, out)
    return out
