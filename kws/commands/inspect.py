"""`kws inspect`: shows what each op costs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command

if TYPE_CHECKING:
    from kws.commands.arguments import Commands


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "inspect", _run, "Show what each op of an integer TFLite model costs and loses.")
    parser.add_argument("model", type=Path, metavar="MODEL", help="BUILD/model.int8.tflite, or any int8 .tflite file")
    parser.add_argument(
        "--float", type=Path, metavar="ONNX", help="BUILD/model.onnx: compare each layer with it (default: do not)"
    )
    parser.add_argument("--data", type=Path, metavar="DATA", help="folder with clips to compare on (default: none)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write everything as JSON (default: print tables, write nothing)"
    )


def _run(options: argparse.Namespace) -> Path | None:
    if (options.float is None) != (options.data is None):
        options.refuse("--float and --data go together: give both or neither")
    from export.inspection import inspect_model, write_inspection
    from export.inspection_tables import print_inspection

    out: Path | None = options.out
    found = inspect_model(options.model, float_onnx=options.float, data=options.data)
    if out is not None:
        write_inspection(found, out)
    print_inspection(found)
    return out
