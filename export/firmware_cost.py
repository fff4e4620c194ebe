"""What a rendered firmware takes: flash and RAM of its parts, and instructions a second on Cortex-M.

Sizes of data are computed. Code and the instructions of a frame were measured under QEMU with GCC 12 -O2 and the
default features (`make firmware-figures`); frames of other sizes are scaled by their FFT. Inference is estimated from
the cost model of `kws inspect`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from export.arena import ARENA_CORES, core_arena_bytes
from export.cost_model import estimate_ops, total
from export.firmware_model import FirmwareModel
from export.tflite_reader import parse_tflite
from kws.config import FeatureConfig
from kws.detector import DetectorParams
from kws.features import FeatureTables

CORE_NAMES = {"cortex_m4": "Cortex-M4F", "cortex_m55": "Cortex-M55"}
# Instructions of one frame, default features, float.
FRAME_INSTRUCTIONS = {"cortex_m4": 47_900, "cortex_m55": 45_600}
# All code of kws_firmware, TFLM with CMSIS-NN and the C library included, for a BC-ResNet-1.
CODE_BYTES = {"cortex_m4": 93_000, "cortex_m55": 86_000}
_MEASURED_FFT = 512
_FLOAT_BYTES, _SHORT_BYTES, _WORD_BYTES = 4, 2, 4


@dataclass(frozen=True, kw_only=True)
class FirmwareCost:
    """Bytes; for each core of ARENA_CORES the arena, and instructions a second of features and inference."""

    model: int
    golden: int
    tables: int
    front_end: int
    window: int
    detector: int
    arena: dict[str, int]
    features_a_second: dict[str, int]
    inference_a_second: dict[str, int]

    def lines(self) -> list[str]:
        """For a person."""
        found = [
            f"Flash: model {self.model:,} bytes, self-test {self.golden:,}, tables {self.tables:,}; code, TFLM "
            f"included, about {CODE_BYTES['cortex_m4']:,} on {CORE_NAMES['cortex_m4']}.",
            f"RAM: front end {self.front_end:,} bytes, frames {self.window:,}, detector {self.detector:,}; arena "
            + ", ".join(f"{self.arena[core]:,} on {CORE_NAMES[core]}" for core in ARENA_CORES)
            + ".",
        ]
        for core in ARENA_CORES:
            features, inference = self.features_a_second[core], self.inference_a_second[core]
            found.append(
                f"{CORE_NAMES[core]}: {(features + inference) / 1e6:.0f} M instructions a second, features "
                f"{features / 1e6:.1f} M, inference {inference / 1e6:.0f} M (estimated)."
            )
        return found


def firmware_cost(model: FirmwareModel, detector: DetectorParams) -> FirmwareCost | None:
    """None for a model without features: how often it runs is not known here."""
    config = model.features
    if config is None:
        return None
    sample_bytes = 1 if model.input.dtype == "int8" else 2
    labels = len(model.labels)
    frames_a_second = config.sample_rate_hz / config.hop_samples
    frame = {core: instructions * _fft_work(config) for core, instructions in FRAME_INSTRUCTIONS.items()}
    inference = total(estimate_ops(parse_tflite(model.data, model.name))).instructions
    return FirmwareCost(
        model=len(model.data),
        golden=(model.input.elements + model.output.elements) * sample_bytes,
        tables=_table_bytes(config),
        front_end=_front_end_bytes(config),
        window=2 * _WORD_BYTES + config.frames * config.mel_bands * sample_bytes,
        detector=4 * _WORD_BYTES + detector.capacity * (_WORD_BYTES + _SHORT_BYTES * labels) + _WORD_BYTES * labels,
        arena={core: core_arena_bytes(core, model.data) for core in ARENA_CORES},
        features_a_second={core: round(frame[core] * frames_a_second) for core in ARENA_CORES},
        inference_a_second={
            core: round(inference[core] * frames_a_second / detector.stride_frames(config)) for core in ARENA_CORES
        },
    )


def _fft_work(config: FeatureConfig) -> float:
    """Against that of the frames that were measured."""
    return config.fft_size * math.log2(config.fft_size) / (_MEASURED_FFT * math.log2(_MEASURED_FFT))


def _front_end_bytes(config: FeatureConfig) -> int:
    """KwsFrontendState and KwsFrontendScratch."""
    state = _WORD_BYTES + -(-_SHORT_BYTES * config.window_samples // _WORD_BYTES) * _WORD_BYTES
    return state + _FLOAT_BYTES * (config.fft_size + config.mel_bands)


def _table_bytes(config: FeatureConfig) -> int:
    """Of the float build: window, twiddle factors, weights and spans of the bands; and the exponential function."""
    bins = [band.nonzero()[0] for band in FeatureTables.of(config).mel_weights.T]
    weights = sum(int(found[-1] - found[0]) + 1 for found in bins if found.size)
    exponential = 2 * 256 * _SHORT_BYTES
    return (
        _FLOAT_BYTES * (config.window_samples + config.fft_size + weights)
        + 2 * _SHORT_BYTES * config.mel_bands
        + exponential
    )
