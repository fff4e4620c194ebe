"""`kws benchmark`: judges a build on test clips."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command

if TYPE_CHECKING:
    from kws.commands.arguments import Commands


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "benchmark", _run, "Judge float and integer model on the same test clips.")
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder that kws quantize wrote")
    parser.add_argument("--data", type=Path, metavar="DATA", help="folder with the test clips (default: none)")
    parser.add_argument("--inputs", type=Path, metavar="NPY", help="instead of DATA: float32 (n, ...) (default: none)")
    parser.add_argument(
        "--targets", type=Path, metavar="NPY", help="with --inputs: the class of each, whole numbers (default: none)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="REPORT", help="folder for benchmark.json (default: the BUILD folder)"
    )


def _run(options: argparse.Namespace) -> Path:
    arrays = (options.inputs, options.targets)
    if (options.data is None) == (arrays == (None, None)) or (options.data is None and None in arrays):
        options.refuse("give either --data, or --inputs and --targets together")
    from export.evaluate import benchmark_arrays, benchmark_data

    out = options.out or options.build
    if options.data is not None:
        return benchmark_data(options.build, options.data, out)
    return benchmark_arrays(options.build, options.inputs, options.targets, out)
