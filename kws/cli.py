"""The command line: parses, calls one function, prints the path it wrote. Heavy imports wait for their command."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kws import __version__
from kws.config import ACTIVATIONS, HOPS_MS, MODEL_TAUS, TrainConfig, features_with_hop
from kws.errors import KwsError

if TYPE_CHECKING:
    from quantize.options import QuantizeOptions

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `kws`; returns the exit code: 0, 1 (the work failed, with one sentence on standard error) or 2 (usage)."""
    _settle_environment()
    options = _parser().parse_args(argv)
    try:
        written: Path | None = options.run(options)
        if written is not None:
            print(f"Wrote {written}")
    except KwsError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(_os_sentence(error))
    except MemoryError:
        return _fail("Out of memory; close other programs, or use fewer clips or a smaller model.")
    except KeyboardInterrupt:
        return _fail("Interrupted; nothing was written.", EXIT_INTERRUPTED)
    return EXIT_OK


def _settle_environment() -> None:
    """Before torch and tensorflow load: idle OpenMP threads must sleep, or a second busy program slows training
    several times over; tensorflow keeps its start-up chatter to itself."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _fail(sentence: str, code: int = EXIT_FAILED) -> int:
    print(f"kws: {sentence}", file=sys.stderr)
    return code


def _os_sentence(error: OSError) -> str:
    where = error.filename or "the output folder"
    remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the path and its rights"
    return f"{where}: {error.strerror or error}; {remedy} and run the command again."


def _synth(options: argparse.Namespace) -> Path:
    from kws.progress import bar
    from kws.synth import DEFAULT_WORDS, synthesize

    out: Path = options.out
    with bar("Speaking") as progress:
        synthesize(out, words=options.words or DEFAULT_WORDS, seed=options.seed, progress=progress)
    return out


def _train(options: argparse.Namespace) -> Path:
    from kws.train import train

    config = TrainConfig(epochs=options.epochs, seed=options.seed)
    return train(
        options.data,
        options.out,
        words=options.words,
        model_name=options.model,
        config=config,
        device_name=options.device,
        activation=options.activation,
        features=features_with_hop(options.hop_ms),
    )


def _quantize(options: argparse.Namespace) -> Path:
    if (options.data is None) == (options.calibration is None):
        options.refuse("give --data with a checkpoint, or --calibration with an ONNX model")
    if options.labels is not None and options.calibration is None:
        options.refuse("--labels goes with --calibration and an ONNX model; a checkpoint knows its labels")
    if options.data is not None:
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


def _headers(options: argparse.Namespace) -> Path:
    from export.headers import render_firmware

    out: Path = options.out
    render_firmware(options.model, out)
    return out


def _benchmark(options: argparse.Namespace) -> Path:
    arrays = (options.inputs, options.targets)
    if (options.data is None) == (arrays == (None, None)) or (options.data is None and None in arrays):
        options.refuse("give either --data, or --inputs and --targets together")
    from export.evaluate import benchmark_arrays, benchmark_data

    out = options.out or options.build
    if options.data is not None:
        return benchmark_data(options.build, options.data, out)
    return benchmark_arrays(options.build, options.inputs, options.targets, out)


def _inspect(options: argparse.Namespace) -> Path | None:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kws",
        description="From a folder of spoken words to microcontroller firmware that spots them.",
        epilog="In this order: synth (or your own recordings), train, quantize, headers; benchmark and inspect judge.",
    )
    parser.add_argument("--version", action="version", version=f"kws {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")

    _add_synth(commands)
    _add_train(commands)
    _add_quantize(commands)
    _add_headers(commands)
    _add_benchmark(commands)
    _add_inspect(commands)
    return parser


def _add_synth(commands: _Commands) -> None:
    parser = _command(commands, "synth", _synth, "Speak words with synthetic voices: data for trying the tool.")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder for the clips, one folder a word")
    parser.add_argument("--words", type=_words, metavar="A,B", help="words to speak (default: 10 commands, 10 others)")
    parser.add_argument("--seed", type=_count, default=0, metavar="N", help="same seed, same bytes (default: 0)")


def _add_train(commands: _Commands) -> None:
    parser = _command(commands, "train", _train, "Train a BC-ResNet on a folder of word folders.")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with one folder of WAV or FLAC clips a word")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder for checkpoint.pt, metrics.json")
    parser.add_argument(
        "--words", type=_words, metavar="A,B", help="keywords; other words become _unknown_ (default: every word)"
    )
    parser.add_argument(
        "--model",
        choices=list(MODEL_TAUS),
        default="bcresnet-1",
        metavar="NAME",
        help=f"one of {', '.join(MODEL_TAUS)} (default: bcresnet-1)",
    )
    parser.add_argument(
        "--activation",
        choices=list(ACTIVATIONS),
        default="swish",
        help="of the temporal branch; hardswish and relu cost less on a microcontroller (default: swish)",
    )
    parser.add_argument(
        "--hop-ms",
        type=int,
        choices=list(HOPS_MS),
        default=10,
        help="from one feature frame to the next, in ms; 20 halves work and memory (default: 10)",
    )
    epochs = TrainConfig().epochs
    parser.add_argument(
        "--epochs", type=_positive, default=epochs, metavar="N", help=f"passes over the data (default: {epochs})"
    )
    parser.add_argument("--seed", type=_count, default=0, metavar="N", help="of weights, order, noise (default: 0)")
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda", "mps"],
        default="auto",
        help="where to compute (default: auto, a GPU if PyTorch finds one)",
    )


def _add_quantize(commands: _Commands) -> None:
    from quantize.options import GOALS, QuantizeOptions

    defaults = QuantizeOptions()
    parser = _command(commands, "quantize", _quantize, "Checkpoint or ONNX -> QDQ ONNX -> integer TFLite, each proven.")
    parser.add_argument("model", type=Path, metavar="MODEL", help="RUN/checkpoint.pt of kws train, or a float .onnx")
    parser.add_argument(
        "--data", type=Path, metavar="DATA", help="of a checkpoint: the folder it was trained on (default: none)"
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
        type=_positive,
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
        ("ranges", RANGES, "how int8 ranges of activations are chosen"),
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


def _add_headers(commands: _Commands) -> None:
    parser = _command(commands, "headers", _headers, "Render the firmware folder for a TFLite model of kws quantize.")
    parser.add_argument("model", type=Path, metavar="MODEL", help="BUILD/model.int8.tflite or model.int16.tflite")
    parser.add_argument("--out", type=Path, required=True, metavar="FIRMWARE", help="folder for the firmware")


def _add_benchmark(commands: _Commands) -> None:
    parser = _command(commands, "benchmark", _benchmark, "Judge float and integer model on the same test clips.")
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder that kws quantize wrote")
    parser.add_argument("--data", type=Path, metavar="DATA", help="folder with the test clips (default: none)")
    parser.add_argument("--inputs", type=Path, metavar="NPY", help="instead of DATA: float32 (n, ...) (default: none)")
    parser.add_argument(
        "--targets", type=Path, metavar="NPY", help="with --inputs: the class of each, whole numbers (default: none)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="REPORT", help="folder for benchmark.json (default: the BUILD folder)"
    )


def _add_inspect(commands: _Commands) -> None:
    parser = _command(commands, "inspect", _inspect, "Show what each op of an integer TFLite model costs and loses.")
    parser.add_argument("model", type=Path, metavar="MODEL", help="BUILD/model.int8.tflite, or any int8 .tflite file")
    parser.add_argument(
        "--float", type=Path, metavar="ONNX", help="BUILD/model.onnx: compare each layer with it (default: do not)"
    )
    parser.add_argument("--data", type=Path, metavar="DATA", help="folder with clips to compare on (default: none)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write everything as JSON (default: print tables, write nothing)"
    )


def _command(
    commands: _Commands, name: str, run: Callable[[argparse.Namespace], Path | None], help_text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(run=run, refuse=parser.error)
    return parser


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise argparse.ArgumentTypeError("names no word; write --words yes,no")
    return words


def _count(text: str) -> int:
    value = _integer(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative; give 0 or more")
    return value


def _positive(text: str) -> int:
    value = _integer(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1; give 1 or more")
    return value


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from error


if __name__ == "__main__":
    sys.exit(main())
