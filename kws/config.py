"""Every number that more than one stage needs, each in one place; derived sizes are properties."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from kws.errors import KwsError

SILENCE_LABEL = "_silence_"
UNKNOWN_LABEL = "_unknown_"
# Folders of a data set that are no words.
NOISE_FOLDER = "_background_noise_"
OFFICIAL_TEST_FOLDER = "_official_test_12_"

_FIELD_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
_Config = TypeVar("_Config", bound="FeatureConfig | ModelConfig | TrainConfig")


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Log-mel features: 40 bands of 30 ms windows every 10 ms, as in the BC-ResNet paper (arXiv:2106.04140, sec. 4.1).

    Frames lie wholly inside the samples they are given, so the features of a window inside a long stream
    equal the features of the same samples taken alone.
    """

    sample_rate_hz: int = 16_000
    clip_samples: int = 16_000
    window_samples: int = 480
    hop_samples: int = 160
    fft_size: int = 512
    mel_bands: int = 40
    mel_low_hz: float = 0.0
    mel_high_hz: float = 8_000.0
    log_offset: float = 1e-6

    @property
    def frames(self) -> int:
        return 1 + (self.clip_samples - self.window_samples) // self.hop_samples

    @property
    def fft_bins(self) -> int:
        return self.fft_size // 2 + 1


def features_with_hop(hop_ms: int) -> FeatureConfig:
    """The features with another hop. 20 ms instead of 10 halves frames, work and activation memory."""
    default = FeatureConfig()
    return replace(default, hop_samples=hop_ms * default.sample_rate_hz // 1000)


MODEL_TAUS: dict[str, float] = {f"bcresnet-{tau:g}": tau for tau in (1, 1.5, 2, 3, 6, 8)}
ACTIVATIONS = ("swish", "hardswish", "relu")
HOPS_MS = (10, 20)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """BC-ResNet-tau (arXiv:2106.04140, table 1). `base_channels` is 8 * tau.

    `activation` is that of the temporal branch: swish in the paper; the others cost less on a microcontroller.
    """

    name: str = "bcresnet-1"
    classes: int
    activation: str = "swish"
    mel_bands: int = 40
    sub_bands: int = 5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.name not in MODEL_TAUS:
            raise KwsError(f"There is no model {self.name!r}: choose one of {', '.join(MODEL_TAUS)}.")
        if self.activation not in ACTIVATIONS:
            raise KwsError(f"There is no activation {self.activation!r}: choose one of {', '.join(ACTIVATIONS)}.")

    @property
    def base_channels(self) -> int:
        return round(8 * MODEL_TAUS[self.name])


BALANCES = ("none", "weights", "sampling")
PRECISIONS = ("float32", "bfloat16")
FIGURES = ("accuracy", "f1", "recall", "precision")
# The latest epoch whose accuracy the validation clips cannot tell from the best one's.
LATEST = "latest"
BEST_BY = (LATEST, *FIGURES)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training recipe; its defaults are the short one of `RECIPES`."""

    epochs: int = 100
    batch_clips: int = 100
    peak_learning_rate: float = 0.1
    warmup_epochs: int = 5
    momentum: float = 0.9
    weight_decay: float = 1e-3
    label_smoothing: float = 0.0
    average_decay: float = 0.995
    class_balance: str = "none"
    unknown_share: float = 1.0
    silence_share: float = 1.0
    teacher_weight: float = 0.5
    teacher_temperature: float = 2.0
    precision: str = "float32"
    shift_ms: int = 200
    speed_change: float = 0.0
    reverb_probability: float = 0.0
    gain_db: float = 0.0
    noise_probability: float = 0.8
    noise_max_amplitude: float = 0.1
    snr_share: float = 0.5
    snr_low_db: float = 0.0
    snr_high_db: float = 20.0
    mask_bands: int = 0
    mask_frames: int = 0
    save_best: str = LATEST
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.class_balance not in BALANCES:
            raise KwsError(f"There is no class balance {self.class_balance!r}: choose one of {', '.join(BALANCES)}.")
        if self.save_best not in BEST_BY:
            raise KwsError(
                f"There is no way {self.save_best!r} to choose the epoch: choose one of {', '.join(BEST_BY)}."
            )
        if self.snr_low_db > self.snr_high_db:
            raise KwsError(f"The lowest ratio to noise, {self.snr_low_db:g} dB, is above the highest; swap the two.")
        if self.precision not in PRECISIONS:
            raise KwsError(f"There is no precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}.")

    @property
    def effective_warmup_epochs(self) -> float:
        """A short run warms up over a tenth of itself rather than over most of it."""
        return min(float(self.warmup_epochs), self.epochs / 10)


def to_dict(config: FeatureConfig | ModelConfig | TrainConfig) -> dict[str, Any]:
    return dataclasses.asdict(config)


def from_dict(kind: type[_Config], values: Mapping[str, Any], source: str) -> _Config:
    """Rebuild a config read from a file; `source` names that file in the error.

    Raises KwsError for missing or unknown fields, wrong types and non-finite numbers.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if not isinstance(values, Mapping) or set(values) != set(fields):
        raise KwsError(f"{source}: its {kind.__name__} does not fit this version of kws; make the file anew.")
    for name, value in values.items():
        wanted = _FIELD_TYPES[str(fields[name].type)]
        is_finite = not isinstance(value, float) or math.isfinite(value)
        if not isinstance(value, wanted) or isinstance(value, bool) or not is_finite:
            raise KwsError(f"{source}: {kind.__name__}.{name} is {value!r}; make the file anew.")
    return kind(**values)
