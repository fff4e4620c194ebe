"""`kws train`: trains a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command, count, positive, words
from kws.config import ACTIVATIONS, HOPS_MS, MODEL_TAUS, TrainConfig, features_with_hop

if TYPE_CHECKING:
    from kws.commands.arguments import Commands


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
        "--epochs", type=positive, default=epochs, metavar="N", help=f"passes over the data (default: {epochs})"
    )
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="of weights, order, noise (default: 0)")
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda", "mps"],
        default="auto",
        help="where to compute (default: auto, a GPU if PyTorch finds one)",
    )


def _run(options: argparse.Namespace) -> Path:
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
        silence=options.silence,
    )
