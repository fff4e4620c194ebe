"""The C front end of a firmware folder on this machine, held against the features that training computed."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.audio import Pcm
from kws.config import FeatureConfig
from kws.errors import KwsError
from kws.progress import track
from quantize.affine import FloatArray, StepArray, StepType
from quantize.compare import MAX_STEPS, Check, at_least, at_most, step_differences

# What the float front end may differ by, see `rounding_bound`.
ROUNDING_LEAST = 2e-6
ROUNDING_OF_LOUDEST = 2e-7
# 50 clips stayed below 0.8 of it; of 2,400 spoken ones one came to 1.05.
MAX_OF_ROUNDING_BOUND = 2.0
MIN_SHARE_EQUAL = 0.999
FIXED_POINT_MIN_SHARE_WITHIN = 0.995
FIXED_POINT_MIN_SHARE_EQUAL = 0.9

FEATURES_SOURCES = (
    *("platform/common/features_main.c", "platform/common/wav.c", "platform/common/text.c"),
    *("platform/common/print_event.c", "platform/host/platform_host.c", "generated/labels.cc"),
)
FRONT_END_SOURCES = (
    *("src/frontend.c", "src/features_float.c", "src/features_fixed.c", "src/fft_float.c"),
    "generated/feature_tables.cc",
)
INCLUDE_FOLDERS = ("src", "generated", "platform/common")
FIXED_POINT_FLAG = "-DKWS_FIXED_POINT"

ARROW = "Python features -> C front end"

_C_COMPILERS, _CXX_COMPILERS = ("cc", "gcc", "clang"), ("c++", "g++", "clang++")
_COMPILE_SECONDS = 120
_CLIP_SECONDS = 60
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True, eq=False)
class FeaturesOfClips:
    """`pcm` int16 (n, samples) and what Python makes of it: `log_mel` float32 and the model's `integers`, both
    (n, mel_bands, frames)."""

    pcm: Pcm
    log_mel: FloatArray
    integers: StepArray

    @property
    def dtype(self) -> StepType:
        return "int16" if self.integers.dtype == np.int16 else "int8"


def rounding_bound(log_mel: FloatArray) -> FloatArray:
    """How far two correct 32-bit computations of log-mel (..., mel_bands, frames) may differ.

    The FFT's rounding error is relative to the loudest band of the frame, so a band far below that one shows it.
    """
    amplitude_ratio = np.exp((log_mel.max(axis=-2, keepdims=True) - log_mel) / 2)
    bound: FloatArray = ROUNDING_LEAST + ROUNDING_OF_LOUDEST * amplitude_ratio
    return bound


def compilers() -> tuple[str, str]:
    """Those of C and of C++. Raises KwsError if there is none."""
    found = [next(filter(None, map(shutil.which, names)), None) for names in (_C_COMPILERS, _CXX_COMPILERS)]
    c, cxx = found
    if c is None or cxx is None:
        raise KwsError(
            "The C front end needs a C and a C++ compiler (cc and c++) to be run here; install gcc and g++, or give "
            "--without-front-end."
        )
    return c, cxx


def build_front_end(firmware: Path, out: Path, *, fixed_point: bool) -> Path:
    """The program kws_features of the folder `firmware`, made for this machine in the folder `out`.

    Raises KwsError if there is no compiler or it refuses a file.
    """
    c, cxx = compilers()
    root = firmware.resolve()
    out.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{root / folder}" for folder in INCLUDE_FOLDERS]
    flags = ["-O2", *includes, *([FIXED_POINT_FLAG] if fixed_point else [])]
    objects = []
    for name in (*FEATURES_SOURCES, *FRONT_END_SOURCES):
        compiler = [c, "-std=c99"] if name.endswith(".c") else [cxx, "-std=c++17"]
        objects.append(str(out / f"{Path(name).name}.o"))
        _compile([*compiler, *flags, "-c", str(root / name), "-o", objects[-1]], firmware / name)
    program = out / "kws_features"
    _compile([cxx, *objects, "-lm", "-o", str(program)], firmware)
    return program


def _compile(command: list[str], what: Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise KwsError(f"{what}: the compiler does not come to an end; render the firmware anew.") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
        raise KwsError(f"{what}: cannot be compiled ({errors[0][:_SHOWN_CHARACTERS]}); render the firmware anew.")


def c_features(program: Path, pcm: Pcm, config: FeatureConfig, dtype: StepType) -> tuple[FloatArray, StepArray]:
    """int16 clips (n, samples) -> log-mel and the model's integers of it, each (n, mel_bands, frames).

    Raises KwsError if the program fails, or prints anything else.
    """
    rows = [_values(program, clip, config) for clip in track(pcm, "C front end", len(pcm))]
    values = np.stack(rows).transpose(0, 2, 1)
    integers = values[:, config.mel_bands :]
    limits = np.iinfo(dtype)
    if integers.min() < limits.min or integers.max() > limits.max:
        raise KwsError(f"{program.name}: the C front end answers with more than {dtype}; render the firmware anew.")
    steps: StepArray = integers.astype(dtype)
    return values[:, : config.mel_bands].astype(np.float32), steps


def _values(program: Path, clip: Pcm, config: FeatureConfig) -> npt.NDArray[np.float64]:
    """Log-mel and integers, side by side: (frames, 2 * mel_bands)."""
    try:
        done = subprocess.run(
            [program, "-"], input=clip.astype("<i2").tobytes(), capture_output=True, timeout=_CLIP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise KwsError(f"{program.name}: the C front end does not come to an end; render the firmware anew.") from error
    if done.returncode != 0:
        raise KwsError(f"{program.name}: the C front end ends with {done.returncode}; render the firmware anew.")
    frames = 1 + (len(clip) - config.window_samples) // config.hop_samples
    try:
        rows = [[float(value) for value in line.split()] for line in done.stdout.decode("ascii").splitlines()]
        return np.array(rows, np.float64).reshape(frames, 2 * config.mel_bands)
    except ValueError as error:
        raise KwsError(
            f"{program.name}: the C front end does not answer a clip of {len(clip)} samples with {frames} frames of "
            f"{config.mel_bands} bands; render the firmware anew."
        ) from error


def check_front_end(python: FeaturesOfClips, program: Path, config: FeatureConfig) -> list[Check]:
    """The C front end in float. An int16 step is so small that rounding shows in it: there the equal ones are not
    counted."""
    arrow = f"{ARROW}, float"
    dtype = python.dtype
    floats, steps = c_features(program, python.pcm, config, dtype)
    excess = np.abs(floats - python.log_mel) / rounding_bound(python.log_mel)
    differences = step_differences(python.integers, steps)
    checks = [
        at_most(
            arrow,
            "largest log-mel difference, as a multiple of what rounding does",
            float(excess.max()),
            MAX_OF_ROUNDING_BOUND,
        ),
        at_most(arrow, f"largest difference in {dtype} steps", differences.max_steps, MAX_STEPS[dtype]),
    ]
    if dtype == "int8":
        checks.append(at_least(arrow, "share of equal int8 values", differences.share_equal, MIN_SHARE_EQUAL))
    return checks


def check_fixed_point(python: FeaturesOfClips, program: Path, config: FeatureConfig) -> list[Check]:
    """The C front end in fixed point, which serves int8 models."""
    arrow = f"{ARROW}, fixed point"
    differences = step_differences(python.integers, c_features(program, python.pcm, config, "int8")[1])
    within, equal = differences.share_within, differences.share_equal
    return [
        at_least(arrow, "share of int8 values within one step", within, FIXED_POINT_MIN_SHARE_WITHIN),
        at_least(arrow, "share of equal int8 values", equal, FIXED_POINT_MIN_SHARE_EQUAL),
    ]
