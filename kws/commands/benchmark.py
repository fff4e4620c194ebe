"""`kws benchmark`: judges builds on test clips."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command, share
from kws.gates import DROP, Gate, Side, parse_gate

if TYPE_CHECKING:
    from kws.commands.arguments import Commands


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "benchmark", _run, "Judge every form of a model on the same test clips.")
    parser.add_argument("build", type=Path, nargs="+", metavar="BUILD", help="folder that kws quantize wrote")
    parser.add_argument("--data", type=Path, metavar="DATA", help="folder with the test clips (default: none)")
    parser.add_argument("--inputs", type=Path, metavar="NPY", help="instead of DATA: float32 (n, ...) (default: none)")
    parser.add_argument(
        "--targets", type=Path, metavar="NPY", help="with --inputs: the class of each, whole numbers (default: none)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="REPORT",
        help="folder for benchmark.json, and of several builds for one each and their comparison (default: the BUILD "
        "folder, no comparison)",
    )
    _add_gates(parser)


def _add_gates(parser: argparse.ArgumentParser) -> None:
    """For CI: each build must be within all of them, or the exit code is 1."""
    parser.add_argument(
        "--fail-below",
        type=_gate("below"),
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="exit with 1 if this figure of benchmark.json is lower, such as accuracy.int8=0.95; may be repeated "
        "(default: none)",
    )
    parser.add_argument(
        "--fail-above",
        type=_gate("above"),
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="exit with 1 if it is higher, such as arena.cortex_m4=80000; may be repeated (default: none)",
    )
    parser.add_argument(
        "--fail-drop",
        type=share,
        metavar="SHARE",
        help="exit with 1 if the device's accuracy is lower than float's by more than this, such as 0.005 "
        "(default: none)",
    )


def _gate(side: Side) -> Callable[[str], Gate]:
    def gate(text: str) -> Gate:
        try:
            return parse_gate(text, side)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return gate


def _run(options: argparse.Namespace) -> Path | None:
    arrays = (options.inputs, options.targets)
    if (options.data is None) == (arrays == (None, None)) or (options.data is None and None in arrays):
        options.refuse("give either --data, or --inputs and --targets together")
    from export.evaluate import benchmark_arrays, benchmark_data

    gates = [*options.fail_below, *options.fail_above]
    if options.fail_drop is not None:
        gates.append(Gate(key=DROP, side="above", bound=options.fail_drop))
    if options.data is not None:
        return benchmark_data(options.build, options.data, options.out, gates)
    return benchmark_arrays(options.build, options.inputs, options.targets, options.out, gates)
