"""A long recording through a model that sees one window at a time, as the firmware runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.audio import Pcm
from kws.config import FeatureConfig
from kws.detector import DetectorParams, Event, Posteriors, detect

PosteriorsOf = Callable[[npt.NDArray[np.float32]], Posteriors]


def stream_windows(
    pcm: Pcm, config: FeatureConfig, stride_frames: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """int16 (n,) -> the end of each window in ms, and its log-mel (windows, 1, mel_bands, frames).

    The first window is complete when `config.frames` frames are; the others follow every `stride_frames` frames.
    """
    from kws.features import features_of_clips

    if len(pcm) < config.window_samples + (config.frames - 1) * config.hop_samples:
        return np.zeros(0, np.int64), np.zeros((0, 1, config.mel_bands, config.frames), np.float32)
    log_mel = features_of_clips(pcm[np.newaxis], config)[0]
    windows: npt.NDArray[Any] = np.lib.stride_tricks.sliding_window_view(log_mel, config.frames, axis=-1)
    windows = np.moveaxis(windows[:, :, ::stride_frames], 2, 0)
    frames = config.frames + stride_frames * np.arange(len(windows), dtype=np.int64)
    return stream_ms(frames, config), windows


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
