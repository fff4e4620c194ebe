"""`kws verify`: proves a build anew."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command, positive

if TYPE_CHECKING:
    from kws.commands.arguments import Commands


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "verify", _run, "Prove a build anew: its files, and each step from the checkpoint to the C front end."
    )
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder that kws quantize wrote")
    parser.add_argument("--data", type=Path, metavar="DATA", help="folder with clips to run (default: synthetic ones)")
    parser.add_argument(
        "--inputs", type=Path, metavar="NPY", help="of an ONNX model: float32 (n, ...) to run (default: noise)"
    )
    parser.add_argument(
        "--clips", type=positive, default=50, metavar="N", help="clips or rows of NPY to run (default: 50)"
    )
    parser.add_argument(
        "--firmware",
        type=Path,
        metavar="FIRMWARE",
        help="folder of kws headers: its generated files must be those of BUILD, and the C front end of a folder for "
        "target cmake is compiled and run, not a new one (default: none)",
    )
    parser.add_argument(
        "--without-front-end",
        dest="front_end",
        action="store_false",
        help="leave out the C front end, which needs a C and a C++ compiler (default: compile and run it)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write what was found as JSON (default: print it, write nothing)"
    )


def _run(options: argparse.Namespace) -> Path | None:
    if options.data is not None and options.inputs is not None:
        options.refuse("give --data or --inputs, not both")
    from export.verify import VerifyOptions, verify

    chosen = VerifyOptions(
        clips=options.clips,
        data=options.data,
        inputs=options.inputs,
        firmware=options.firmware,
        front_end=options.front_end,
    )
    return verify(options.build, chosen, options.out)
