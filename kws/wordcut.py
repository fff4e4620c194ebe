"""A recording of one word -> a clip with the word in its middle."""

from __future__ import annotations

import numpy as np

from kws.audio import Samples, fit_clip

FRAME_SAMPLES = 160
SILENT_DBFS = -60.0
# A frame is part of the word if it comes this close to the loudest one ...
BELOW_LOUDEST_DB = 35.0
# ... and stands out from the background, unless it is almost as loud as the loudest.
ABOVE_BACKGROUND_DB = 10.0
ALMOST_LOUDEST_DB = 15.0
BACKGROUND_PERCENTILE = 10


def word_span(samples: Samples) -> tuple[int, int] | None:
    """First and last sample + 1 of what is loud in `samples` float32 (n,) at 16 kHz, in steps of 10 ms.

    A constant offset counts as silence. None if no 10 ms reach SILENT_DBFS (rms against full scale).
    """
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    power = frames.var(axis=1, dtype=np.float64)
    loudest = float(power.max(initial=0.0))
    if loudest < _ratio(SILENT_DBFS):
        return None
    background = float(np.percentile(power, BACKGROUND_PERCENTILE))
    standing_out = min(background * _ratio(ABOVE_BACKGROUND_DB), loudest * _ratio(-ALMOST_LOUDEST_DB))
    loud = np.flatnonzero(power >= max(loudest * _ratio(-BELOW_LOUDEST_DB), standing_out))
    return int(loud[0]) * FRAME_SAMPLES, (int(loud[-1]) + 1) * FRAME_SAMPLES


def cut_word(samples: Samples, span: tuple[int, int], clip_samples: int) -> Samples:
    """float32 (clip_samples,): `span` of `samples` in the middle, with what was recorded around it, zeros where nothing
    was. Of a longer span the loudest stretch."""
    start, stop = span
    if stop - start > clip_samples:
        return fit_clip(samples[start:stop], clip_samples)
    lowest, highest = sorted((0, len(samples) - clip_samples))
    first = min(max((start + stop - clip_samples) // 2, lowest), highest)
    padded = np.pad(samples, (max(-first, 0), max(first + clip_samples - len(samples), 0)))
    return padded[max(first, 0) : max(first, 0) + clip_samples]


def _ratio(level_db: float) -> float:
    return float(10 ** (level_db / 10))
