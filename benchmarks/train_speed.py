"""Clips a second that `kws train` and a plain BC-ResNet training take on this machine, by turns in one run."""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
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
from kws.training.run import Forward, optimizer_of, train_step

WORDS, SPEAKERS = 10, 40


def main() -> None:
    arguments = _arguments()
    device = _device(arguments.device)
    prepare_process()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["KWS_CACHE_DIR"] = f"{scratch}/cache"
        data = arguments.data or _synthesize(Path(scratch) / "data")
        dataset = load_dataset(data, None, FeatureConfig())
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            runs = {"plain": _plain(dataset, device), "kws": _ours(dataset, device)}
            rates = _by_turns(runs, arguments.steps, arguments.rounds, device)
            print(_report(f"{device}, {threads} thread(s)", rates), flush=True)


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


def _ours(dataset: Dataset, device: torch.device) -> Iterator[int]:
    config = RECIPES["paper"]
    network = BCResNet(ModelConfig(classes=len(dataset.labels))).to(device).train()
    optimizer = optimizer_of(network, config)
    optimizer.param_groups[0]["lr"] = 0.01
    forward, loss = Forward(network), Loss(config)
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


def _by_turns(runs: dict[str, Iterator[int]], steps: int, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Clips a second of each run in each round, after one step to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        next(run)
    _finish(device)
    for name, run in list(runs.items()) * rounds:
        started = time.perf_counter()
        clips = sum(itertools.islice(run, steps))
        _finish(device)
        rates[name].append(clips / (time.perf_counter() - started))
    return rates


def _finish(device: torch.device) -> None:
    """Wait for what a GPU was asked to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def _report(where: str, rates: dict[str, list[float]]) -> str:
    ratios = sorted(ours / plain for ours, plain in zip(rates["kws"], rates["plain"], strict=True))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return (
        f"{where}: plain {medians['plain']:.0f} clips/s, kws {medians['kws']:.0f} clips/s, "
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
