"""The posteriors of every window of a long recording, by several processes and in little memory."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from export.spotting_model import SpottingModel, open_model
from kws.audio import Pcm
from kws.config import FeatureConfig
from kws.detector import Posteriors
from kws.stream import stream_ms, stream_windows
from kws.workers import work_through

WINDOWS_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class PcmFile:
    """int16 samples in a file without a header, so that processes may each read their part of it."""

    path: Path
    samples: int

    @staticmethod
    def write(path: Path, blocks: Iterable[Pcm]) -> PcmFile:
        samples = 0
        with path.open("wb") as stream:
            for block in blocks:
                stream.write(block.tobytes())
                samples += len(block)
        return PcmFile(path=path, samples=samples)

    def part(self, start: int, stop: int) -> Pcm:
        pcm: Pcm = np.fromfile(self.path, np.int16, count=stop - start, offset=start * np.dtype(np.int16).itemsize)
        return pcm


@dataclass(frozen=True, kw_only=True)
class Task:
    """Windows `first` to `last` (not included) of a recording, and the model that answers them."""

    model: Path
    pcm: PcmFile
    stride_frames: int
    first: int
    last: int


def stream_posteriors(
    wanted: Sequence[tuple[Path, PcmFile]], features: FeatureConfig, stride_frames: int, workers: int
) -> list[tuple[npt.NDArray[np.int64], Posteriors]]:
    """For each model and recording the end in ms of each window (windows,) and its posteriors (windows, labels)."""
    counts = [window_count(features, pcm.samples, stride_frames) for _, pcm in wanted]
    tasks = [
        Task(model=model, pcm=pcm, stride_frames=stride_frames, first=first, last=min(first + WINDOWS_AT_ONCE, count))
        for (model, pcm), count in zip(wanted, counts, strict=True)
        for first in range(0, count, WINDOWS_AT_ONCE)
    ]
    posteriors = np.concatenate(list(work_through(_answer, tasks, workers, "Listening")))
    ends = [stream_ms(features.frames + stride_frames * np.arange(count, dtype=np.int64), features) for count in counts]
    return list(zip(ends, np.split(posteriors, np.cumsum(counts)[:-1]), strict=True))


def window_count(features: FeatureConfig, samples: int, stride_frames: int) -> int:
    frames = 1 + (samples - features.window_samples) // features.hop_samples
    return max(0, 1 + (frames - features.frames) // stride_frames)


def windows_at(
    pcm: PcmFile, features: FeatureConfig, stride_frames: int, first: int, last: int
) -> npt.NDArray[np.float32]:
    """Log-mel of windows `first` to `last` (not included), (last - first, 1, mel_bands, frames)."""
    step = stride_frames * features.hop_samples
    length = features.window_samples + (features.frames - 1) * features.hop_samples
    samples = pcm.part(first * step, (last - 1) * step + length)
    return stream_windows(samples, features, stride_frames)[1]


def _answer(task: Task) -> Posteriors:
    model = _model(task.model)
    windows = windows_at(task.pcm, model.features, task.stride_frames, task.first, task.last)
    return model.posteriors_of(windows)


@functools.lru_cache(maxsize=2)
def _model(path: Path) -> SpottingModel:
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)
    return open_model(path)
