"""Clips a second that `kws train` and a plain BC-ResNet training take on this machine, by turns in one run.

Each trains in a process of its own, so that the plain one has none of the settings that `kws train` makes. On a GPU
`kws train --compile` is measured, too.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks.plain_training import RATE_HZ, Clips, plain_steps
from kws.config import FeatureConfig, ModelConfig
from kws.dataset import NOISE_FOLDER, Dataset, load_dataset
from kws.errors import KwsError
from kws.model import BCResNet
from kws.training.batches import BatchSource
from kws.training.loss import Loss
from kws.training.processes import choose_device, prepare_process
from kws.training.recipe import RECIPES
from kws.training.run import Forward, compile_for_gpu, optimizer_of, train_step

WORDS, SPEAKERS = 10, 40

# Of a data set, on a device: train for ever, yielding the clips of each step after it.
Training = Callable[[Dataset, torch.device], Iterator[int]]


def main() -> None:
    arguments = _arguments()
    device = _device(arguments.device)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["KWS_CACHE_DIR"] = f"{scratch}/cache"
        data = arguments.data or _synthesize(Path(scratch) / "data")
        load_dataset(data, None, FeatureConfig())
        for threads in arguments.threads:
            for name, ours in trainings_on(device).items():
                trainings = [Turns(training, data, device, threads) for training in (_plain, ours)]
                rates = [[turns.take(arguments.steps) for turns in trainings] for _ in range(arguments.rounds)]
                for turns in trainings:
                    turns.end()
                print(_report(f"{device}, {threads} thread(s)", name, rates), flush=True)


def trainings_on(device: torch.device) -> dict[str, Training]:
    """The ways in which kws trains there."""
    return {"kws": _ours} | ({"kws --compile": _ours_compiled} if device.type == "cuda" else {})


class Turns:
    """A training in a process of its own, which takes some steps whenever it is told to."""

    def __init__(self, training: Training, data: Path, device: torch.device, threads: int) -> None:
        """Starts it, and waits until it has made one step to warm up."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_train, args=(theirs, training, data, device, threads), daemon=True)
        self._process.start()
        theirs.close()
        self.take(1)

    def take(self, steps: int) -> float:
        """Clips a second of so many steps."""
        self._connection.send(steps)
        try:
            rate: float = self._connection.recv()
        except EOFError:
            raise SystemExit("A training ended early; what it printed above says why.") from None
        return rate

    def end(self) -> None:
        self._connection.send(0)
        self._process.join()


def _train(connection: Connection, training: Training, data: Path, device: torch.device, threads: int) -> None:
    torch.set_num_threads(threads)
    run = training(load_dataset(data, None, FeatureConfig()), device)
    while steps := connection.recv():
        started = time.perf_counter()
        clips = sum(itertools.islice(run, steps))
        _finish(device)
        connection.send(clips / (time.perf_counter() - started))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="word folders of 16 kHz mono files (default: tones made here)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--steps", type=int, default=5, help="steps of 100 clips in a turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    return parser.parse_args()


def _device(name: str) -> torch.device:
    try:
        return choose_device(name)
    except KwsError as error:
        raise SystemExit(str(error)) from None


def _ours_compiled(dataset: Dataset, device: torch.device) -> Iterator[int]:
    return _ours(dataset, device, compiled=True)


def _ours(dataset: Dataset, device: torch.device, *, compiled: bool = False) -> Iterator[int]:
    prepare_process()
    config = RECIPES["paper"]
    network = BCResNet(ModelConfig(classes=len(dataset.labels))).to(device).train()
    optimizer = optimizer_of(network, config)
    optimizer.param_groups[0]["lr"] = 0.01
    forward, loss = Forward(network), Loss(config)
    if compiled:
        compile_for_gpu(forward)
    source = BatchSource(dataset, FeatureConfig(), config, device)
    for epoch in itertools.count():
        for batch in source.of_epoch(epoch):
            train_step(forward, optimizer, loss, batch)
            yield len(batch.targets)


def _plain(dataset: Dataset, device: torch.device) -> Iterator[int]:
    split = dataset.splits["training"]
    noises = [dataset.root / NOISE_FOLDER / name for name in dataset.noise]
    clips = Clips([dataset.root / dataset.names[row] for row in split.rows], split.targets.tolist(), noises)
    return plain_steps(clips, len(dataset.labels), RECIPES["paper"].batch_clips, device)


def _finish(device: torch.device) -> None:
    """Wait for what a GPU was asked to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def _report(where: str, name: str, rates: list[list[float]]) -> str:
    """`rates` are those of the plain training and of ours, round by round."""
    ratios = sorted(ours / plain for plain, ours in rates)
    plain, ours = (statistics.median(of_one) for of_one in zip(*rates, strict=True))
    return (
        f"{where}: plain {plain:.0f} clips/s, {name} {ours:.0f} clips/s, "
        f"ratio {statistics.median(ratios):.2f} (rounds: {ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def _synthesize(root: Path) -> Path:
    """A tone for each word, and hiss as the background."""
    rng = np.random.default_rng(0)
    time_s = np.arange(RATE_HZ) / RATE_HZ
    for word, speaker in itertools.product(range(WORDS), range(SPEAKERS)):
        folder = root / f"word{word}"
        folder.mkdir(parents=True, exist_ok=True)
        tone = 0.3 * np.sin(2 * np.pi * (200 * (word + 1) + 3 * speaker) * time_s)
        soundfile.write(folder / f"speaker{speaker}_nohash_0.wav", tone, RATE_HZ, subtype="PCM_16")
    (root / NOISE_FOLDER).mkdir()
    soundfile.write(root / NOISE_FOLDER / "hiss.wav", rng.normal(0, 0.02, 30 * RATE_HZ), RATE_HZ, subtype="PCM_16")
    return root


if __name__ == "__main__":
    main()
