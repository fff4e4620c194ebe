"""TensorFlow Lite Micro on many clips: its reference kernels take their time on a host, so two processes share them."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np

from kws.workers import work_through
from quantize.affine import FloatArray, StepArray
from quantize.runtimes import TflmRuntime

MAX_PROCESSES = 2
# Below this a process takes longer to start than it saves.
MIN_CLIPS_TO_SHARE = 400
CLIPS_AT_ONCE = 16


def device_answers(model: bytes, images: FloatArray, description: str) -> StepArray:
    """What `TflmRuntime(model)` answers to `images` (n, ...): int8 or int16 (n, classes). A progress bar says
    `description`. Raises KwsError as it does."""
    parts = [(model, images[start : start + CLIPS_AT_ONCE]) for start in range(0, len(images), CLIPS_AT_ONCE)]
    processes = min(MAX_PROCESSES, os.cpu_count() or 1) if len(images) >= MIN_CLIPS_TO_SHARE else 1
    return np.concatenate(list(work_through(_answer, parts, processes, description)))


def _answer(part: tuple[bytes, FloatArray]) -> StepArray:
    model, images = part
    return _runtime(model)(images)


@lru_cache(maxsize=1)
def _runtime(model: bytes) -> TflmRuntime:
    return TflmRuntime(model)
