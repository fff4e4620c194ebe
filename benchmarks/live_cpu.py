"""The share of one core that live detection takes, for each form of a build's model.

Soft noise comes in blocks of one stride, no faster than a microphone would give them, and goes through what `kws detect
--mic` does with them; start-up is not counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from export.spotting_model import build_files, open_model
from kws.audio import Pcm
from kws.checkpoint import CHECKPOINT_NAME
from kws.detect import Listener
from kws.detector import DetectorParams


def paced(block_samples: int, rate_hz: int, seconds: float) -> Iterator[Pcm]:
    rng = np.random.default_rng(0)
    started = time.monotonic()
    for index in range(1, int(seconds * rate_hz / block_samples) + 1):
        time.sleep(max(0.0, started + index * block_samples / rate_hz - time.monotonic()))
        yield rng.normal(0, 300, block_samples).astype(np.int16)


def cpu_share(model_path: Path, seconds: float) -> tuple[float, float]:
    """CPU seconds a second of audio, and by how many seconds the loop ended late."""
    params, model = DetectorParams(), open_model(model_path)
    listener = Listener(model.labels, model.features, params, model.posteriors_of)
    block = params.stride_frames(model.features) * model.features.hop_samples
    for pcm in paced(block, model.features.sample_rate_hz, 2.0):
        listener.push(pcm)
    cpu_s, wall_s = time.process_time(), time.monotonic()
    for pcm in paced(block, model.features.sample_rate_hz, seconds):
        listener.push(pcm)
    return (time.process_time() - cpu_s) / seconds, time.monotonic() - wall_s - seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path, help="folder that kws quantize wrote")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in (CHECKPOINT_NAME, *build_files(options.build).all):
        share, late_s = cpu_share(options.build / name, options.seconds)
        print(f"{name:24} {share:6.1%} of a core, {late_s:.2f} s late", flush=True)


if __name__ == "__main__":
    main()
