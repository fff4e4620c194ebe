"""A long recording through a model that sees one window at a time, as the firmware runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kws.audio import Pcm, audio_seconds, read_audio_blocks, to_float, to_pcm16
from kws.config import FeatureConfig
from kws.detector import DetectorParams, Event, Posteriors, detect
from kws.errors import KwsError
from kws.features import LogMel
from kws.progress import track
from kws.terminal import visible

PosteriorsOf = Callable[[npt.NDArray[np.float32]], Posteriors]
# torch sums the mel bands of a handful of frames in another order than those of many, which shows in the last bit.
FRAMES_MULTIPLE = 16
FRAMES_AT_ONCE = 256 * FRAMES_MULTIPLE
BLOCK_SECONDS = 10

Windows = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]


class WindowStream:
    """Samples in pieces of any length -> bit for bit the windows of the whole; keeps no more than it still needs.

    The first window is complete when `config.frames` frames are; the others follow every `stride_frames` frames.
    """

    def __init__(self, config: FeatureConfig, stride_frames: int) -> None:
        self._config, self._stride = config, stride_frames
        self._log_mel = LogMel(config)
        self._pcm: Pcm = np.zeros(0, np.int16)
        self._frames: npt.NDArray[np.float32] = np.zeros((config.mel_bands, 0), np.float32)
        self._first_frame = self._next_window = 0

    def push(self, pcm: Pcm) -> Windows:
        """int16 (n,) -> the end of each window that is now complete, in ms, and its log-mel (windows, 1, mel_bands,
        frames)."""
        self._frames = np.concatenate([self._frames, self._new_frames(pcm)], axis=1)
        size, at = self._config.frames, self._next_window - self._first_frame
        count = max(0, 1 + (self._frames.shape[1] - size - at) // self._stride)
        if not count:
            empty = np.zeros((0, 1, self._config.mel_bands, size), np.float32)
            return np.zeros(0, np.int64), empty
        views: npt.NDArray[Any] = np.lib.stride_tricks.sliding_window_view(self._frames, size, axis=-1)
        windows = np.moveaxis(views[:, at :: self._stride], 1, 0)[:, np.newaxis]
        ends = self._next_window + self._stride * np.arange(count, dtype=np.int64) + size
        self._next_window += count * self._stride
        self._forget()
        return stream_ms(ends, self._config), windows

    def _new_frames(self, pcm: Pcm) -> npt.NDArray[np.float32]:
        config = self._config
        samples = np.concatenate([self._pcm, pcm])
        count = max(0, 1 + (len(samples) - config.window_samples) // config.hop_samples)
        self._pcm = samples[count * config.hop_samples :].copy()
        parts = [
            self._log_mel_of(samples[first * config.hop_samples :], min(FRAMES_AT_ONCE, count - first))
            for first in range(0, count, FRAMES_AT_ONCE)
        ]
        return np.concatenate([np.zeros((config.mel_bands, 0), np.float32), *parts], axis=1)

    def _log_mel_of(self, samples: Pcm, count: int) -> npt.NDArray[np.float32]:
        """The first `count` frames of `samples`, computed among others to make FRAMES_MULTIPLE."""
        config = self._config
        computed = -(-count // FRAMES_MULTIPLE) * FRAMES_MULTIPLE
        wanted = config.window_samples + (count - 1) * config.hop_samples
        padding = (computed - count) * config.hop_samples
        padded = np.pad(samples[:wanted], (0, padding))
        frames: npt.NDArray[np.float32] = self._log_mel(torch.from_numpy(to_float(padded))).numpy()
        return frames[:, :count]

    def _forget(self) -> None:
        past = min(self._next_window - self._first_frame, self._frames.shape[1])
        self._frames = self._frames[:, past:]
        self._first_frame += past


def stream_windows(pcm: Pcm, config: FeatureConfig, stride_frames: int) -> Windows:
    """All windows of int16 samples (n,), as `WindowStream` gives them."""
    return WindowStream(config, stride_frames).push(pcm)


def stream_ms(frames: npt.NDArray[np.int64], config: FeatureConfig) -> npt.NDArray[np.int64]:
    """Where the last of so many frames ends, in whole milliseconds."""
    return ((frames - 1) * config.hop_samples + config.window_samples) * 1000 // config.sample_rate_hz


def stream_events(
    pcm: Pcm, config: FeatureConfig, params: DetectorParams, labels: Sequence[str], posteriors_of: PosteriorsOf
) -> list[Event]:
    """The events of int16 samples (n,). `posteriors_of` answers log-mel windows with posteriors in 1/32768."""
    times_ms, windows = stream_windows(pcm, config, params.stride_frames(config))
    if not len(windows):
        return []
    return detect(times_ms.tolist(), posteriors_of(windows), params, labels)


def recording_blocks(path: Path, config: FeatureConfig) -> Iterator[Pcm]:
    """A file of any length, rate and number of channels as int16 samples of the model's rate, with a progress bar.

    Raises KwsError as `read_audio_blocks` does, and at the end if there were too few samples for a window.
    """
    samples, blocks = 0, read_audio_blocks(path, config.sample_rate_hz, BLOCK_SECONDS)
    for block in track(blocks, f"Reading {visible(path.name)}", int(audio_seconds(path) / BLOCK_SECONDS) + 1):
        samples += len(block)
        yield to_pcm16(block)
    needed = config.window_samples + (config.frames - 1) * config.hop_samples
    if samples < needed:
        found_ms, needed_ms = (count * 1000 // config.sample_rate_hz for count in (samples, needed))
        raise KwsError(
            f"{path}: lasts {found_ms} ms, but the model needs {needed_ms} ms for an answer; give a longer recording."
        )
