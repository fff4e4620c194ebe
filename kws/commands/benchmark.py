"""`kws benchmark`: judges builds on test clips."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command, count, number, positive, positive_number, share
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
    _add_stream(parser)


def _add_stream(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "streaming (--stream): listens to long audio as the firmware does and writes stream.json and detector.json"
    )
    group.add_argument("--stream", action="store_true", help="count false accepts an hour and missed words instead")
    group.add_argument(
        "--hours", type=positive_number, default=1.0, metavar="H", help="length of the audio made of clips (default: 1)"
    )
    group.add_argument(
        "--false-accepts-per-hour",
        type=positive_number,
        default=1.0,
        metavar="N",
        help="what thresholds are chosen for, on the validation split (default: 1)",
    )
    group.add_argument(
        "--per-keyword",
        action="store_true",
        help="choose a threshold for each keyword, rather than one for all: for many hours only",
    )
    group.add_argument(
        "--recording", type=Path, metavar="WAV", help="listen to this instead of a scene of test clips (default: none)"
    )
    group.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="what is said in --recording: start and end in seconds and the word, tabs between, as Audacity exports "
        "them (default: none)",
    )
    group.add_argument("--detector", type=Path, metavar="FILE", help="JSON: times of the detector (default: its own)")
    group.add_argument("--write-audio", action="store_true", help="keep what was listened to: scene.wav and scene.txt")
    group.add_argument(
        "--snr-db",
        type=_range,
        default=(5.0, 20.0),
        metavar="LOW,HIGH",
        help="of the median word to the noise under the clips (default: 5,20)",
    )
    group.add_argument("--seed", type=count, default=0, metavar="N", help="of the scenes (default: 0)")
    group.add_argument("--workers", type=positive, metavar="N", help="processes (default: one for each core)")


def _gate(side: Side) -> Callable[[str], Gate]:
    def gate(text: str) -> Gate:
        try:
            return parse_gate(text, side)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return gate


def _run(options: argparse.Namespace) -> Path | None:
    if options.stream:
        return _run_stream(options)
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


def _run_stream(options: argparse.Namespace) -> Path:
    if (options.recording is None) != (options.labels is None):
        options.refuse("give --recording and --labels together")
    if options.data is None and options.recording is None:
        options.refuse("--stream needs --data, or --recording and --labels")
    if options.inputs or options.targets:
        options.refuse("--stream listens to audio; leave --inputs and --targets away")
    if len(options.build) != 1:
        options.refuse("--stream listens with one build at a time")
    if options.fail_below or options.fail_above or options.fail_drop is not None:
        options.refuse("--fail-below, --fail-above and --fail-drop are for test clips; leave them away with --stream")
    from export.stream_evaluation import StreamOptions, evaluate_stream
    from kws.detector import DetectorParams, read_detector

    chosen = StreamOptions(
        data=options.data,
        recording=options.recording,
        labels=options.labels,
        hours=options.hours,
        seed=options.seed,
        snr_db=options.snr_db,
        false_accepts_per_hour=options.false_accepts_per_hour,
        per_keyword=options.per_keyword,
        params=read_detector(options.detector) if options.detector else DetectorParams(),
        write_audio=options.write_audio,
        workers=options.workers or os.cpu_count() or 1,
    )
    (build,) = options.build
    return evaluate_stream(build, chosen, options.out or build)


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition(",")
    found = number(low), number(high or low)
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"{text} begins above its end; write --snr-db 5,20")
    return found
