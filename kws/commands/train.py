"""`kws train`: trains a model."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kws.commands.arguments import add_command, count, number, positive, positive_number, share, words
from kws.config import ACTIVATIONS, BALANCES, BEST_BY, HOPS_MS, MODEL_TAUS, PRECISIONS, TrainConfig, features_with_hop
from kws.pretrained import NAMES, model_path

if TYPE_CHECKING:
    from kws.commands.arguments import Commands

SHORT = TrainConfig()


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "train", _run, "Train a BC-ResNet on a folder of word folders.")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with one folder of WAV or FLAC clips a word")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder for checkpoint.pt, metrics.json")
    parser.add_argument(
        "--words", type=words, metavar="A,B", help="keywords; other words become _unknown_ (default: every word)"
    )
    parser.add_argument(
        "--no-silence",
        dest="silence",
        action="store_false",
        help="no class for silence; background noise is mixed in all the same (default: one, if there is noise)",
    )
    parser.add_argument(
        "--model",
        choices=list(MODEL_TAUS),
        metavar="NAME",
        help=f"one of {', '.join(MODEL_TAUS)} (default: that of --init, or bcresnet-1)",
    )
    parser.add_argument(
        "--init",
        type=model_path,
        metavar="CHECKPOINT",
        help=f"a trained model to start from, of the same words or others: a file, or {' or '.join(NAMES)} "
        "(default: random weights)",
    )
    parser.add_argument(
        "--activation",
        choices=list(ACTIVATIONS),
        help="of the temporal branch; hardswish and relu cost less on a microcontroller (default: that of --init, or "
        "swish)",
    )
    parser.add_argument(
        "--hop-ms",
        type=int,
        choices=list(HOPS_MS),
        help="from one feature frame to the next, in ms; 20 halves work and memory (default: that of --init, or 10)",
    )
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda", "mps"],
        default="auto",
        help="where to compute (default: auto, a GPU if PyTorch finds one)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where the same command was stopped (default: begin anew)"
    )
    parser.add_argument("--track", action="store_true", help="log to mlflow, in mlflow.db here (default: do not)")
    parser.add_argument("--tracking-uri", metavar="URI", help="log to mlflow at URI, a server say (default: none)")
    _add_recipe(parser)
    _add_augmentation(parser)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recipe")
    group.add_argument(
        "--recipe",
        choices=["auto", "short", "few-speakers", "paper"],
        default="auto",
        help="short and few-speakers are for small data, paper is that of arXiv:2106.04140 (default: auto, by the "
        "numbers of clips and speakers)",
    )
    group.add_argument(
        "--teacher", type=model_path, metavar="CHECKPOINT", help="a larger model to learn from (default: none)"
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the network, its kernels started as one graph: minutes before the first step, then faster steps; "
        "for GPUs (default: do not)",
    )
    group.add_argument("--seed", type=count, default=0, metavar="N", help="of weights, order, noise (default: 0)")
    for name, kind, help_text in (
        ("epochs", positive, "passes over the data"),
        ("batch-clips", positive, "clips a step, over all processes; fewer where there are few"),
        ("peak-learning-rate", positive_number, "after the warm-up; lower with --init and few clips"),
        ("label-smoothing", share, "taken off the right class and spread over all"),
        ("average-decay", share, "of the moving average of the weights, which is what is kept; 0 turns it off"),
        ("teacher-weight", share, "of the teacher's answer against the label"),
        ("teacher-temperature", positive_number, "that softens both answers where they are compared"),
        ("patience", count, "stop after so many epochs without a better one; 0 never stops"),
    ):
        group.add_argument(f"--{name}", type=kind, metavar="N", help=f"{help_text} {_default_of(name)}")
    for name, choices, help_text in (
        ("class-balance", BALANCES, "how rare classes are made up for: in the loss or by drawing them more often"),
        ("precision", PRECISIONS, "of the network's arithmetic; bfloat16 is for GPUs"),
        (
            "save-best",
            BEST_BY,
            "the epoch that is kept: best by a figure on the validation split, or the latest that its clips cannot "
            "tell from the most accurate",
        ),
    ):
        group.add_argument(f"--{name}", choices=choices, help=f"{help_text} {_default_of(name)}")


def _add_augmentation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("augmentation")
    for name, kind, metavar, help_text in (
        ("shift-ms", count, "MS", "move the word by up to so much either way"),
        ("speed-change", share, "X", "speak faster or slower, higher or lower, by up to this share"),
        ("reverb-probability", share, "P", "share of clips that sound as in a room"),
        ("gain-db", number, "DB", "louder or softer by up to so much"),
        ("noise-probability", share, "P", "share of clips with background noise"),
        ("noise-max-amplitude", share, "X", "of the noise, relative to its recording"),
        ("snr-share", share, "P", "share of noisy clips whose noise is set by its ratio to the word instead"),
        ("snr-low-db", number, "DB", "lowest such ratio"),
        ("snr-high-db", number, "DB", "highest such ratio"),
        ("mask-bands", count, "N", "SpecAugment: hide twice fewer than so many bands"),
        ("mask-frames", count, "N", "SpecAugment: hide twice fewer than so many frames"),
    ):
        group.add_argument(f"--{name}", type=kind, metavar=metavar, help=f"{help_text} {_default_of(name)}")


def _default_of(name: str) -> str:
    return f"(default of the short recipe: {getattr(SHORT, name.replace('-', '_'))})"


def _run(options: argparse.Namespace) -> Path | None:
    from kws.training.loop import train
    from kws.training.processes import is_first_process

    written = train(
        options.data,
        options.out,
        words=options.words,
        model_name=options.model,
        recipe=options.recipe,
        changes=_changes(options),
        device_name=options.device,
        activation=options.activation,
        features=features_with_hop(options.hop_ms) if options.hop_ms else None,
        start=options.init,
        teacher=options.teacher,
        resume=options.resume,
        track=options.track,
        tracking_uri=options.tracking_uri,
        silence=options.silence,
        compiled=options.compile,
    )
    return written if is_first_process() else None


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """What the options set of the recipe."""
    given = {field.name: getattr(options, field.name, None) for field in dataclasses.fields(TrainConfig)}
    return {name: value for name, value in given.items() if value is not None}
