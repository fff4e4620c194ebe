"""The proof that every conversion gives: what comes out compared with what went in, against a stated tolerance.

Arrays of logits are (clips, classes); a check of an arrow is a `Check`, and `require` fails past its tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError
from kws.metrics import pair, sqnr_db
from quantize.affine import StepArray, StepType

EXPORT_MAX_LOGIT_DIFFERENCE = 1e-4
REWRITE_MAX_LOGIT_DIFFERENCE = 1e-3
REWRITE_MAX_RELATIVE_DIFFERENCE = 1e-5
# Float models of two seeds, trained for the same words, came to 9 dB; integer ones to 17 on noise and 27 on speech.
QUANTIZATION_MIN_SQNR_DB = 12.0
# float32 sums and rare ties show in int16, where 16 steps are a sixteenth of one in int8.
MAX_STEPS: dict[StepType, int] = {"int8": 1, "int16": 16}
DEVICE_MIN_SHARE_WITHIN_STEPS = 0.99
DEVICE_MIN_AGREEMENT = 0.99

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class StepDifferences:
    """How two integer tensors differ: shares (0..1) of values that are equal and within some steps, and the largest."""

    share_equal: float
    share_within: float
    max_steps: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure of one arrow; `name` is "arrow: figure". `sentence` says what was compared, found and wanted."""

    name: str
    value: float
    tolerance: float
    passed: bool
    sentence: str


def shared_winner(a: StepArray, b: StepArray) -> float:
    """The share (0..1) of clips on which some class has the largest logit in both; several may, in integers."""
    first, second = pair(a, b)
    wins = [logits == logits.max(axis=1, keepdims=True) for logits in (first, second)]
    return float(np.mean((wins[0] & wins[1]).any(axis=1)))


def max_abs_difference(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    first, second = pair(a, b)
    return float(np.abs(first - second).max())


def step_differences(a: StepArray, b: StepArray, within: int = 1) -> StepDifferences:
    """Differences of two arrays of one shape, both int8 or both int16, in steps; `share_within` is that of at most
    `within` of them. Raises KwsError for other types."""
    if {np.asarray(a).dtype, np.asarray(b).dtype} not in ({np.dtype(np.int8)}, {np.dtype(np.int16)}):
        raise KwsError("Steps can only be counted between int8 or between int16 tensors; quantize both.")
    first, second = pair(a, b)
    steps = np.abs(first - second)
    return StepDifferences(
        share_equal=float(np.mean(steps == 0)),
        share_within=float(np.mean(steps <= within)),
        max_steps=int(steps.max()),
    )


def check_export(given_logits: Logits, onnx_logits: Logits, origin: str = "torch") -> list[Check]:
    """What the model is given as (`origin`) against float ONNX."""
    return [
        at_most(
            f"{origin} -> float ONNX",
            "largest logit difference",
            max_abs_difference(given_logits, onnx_logits),
            EXPORT_MAX_LOGIT_DIFFERENCE,
        )
    ]


def check_rewrite(onnx_logits: Logits, rewritten_logits: Logits) -> list[Check]:
    """Float ONNX against the rewritten float ONNX; logits in the hundreds may differ by their share of float32."""
    largest = float(np.abs(onnx_logits).max(initial=0.0))
    return [
        at_most(
            "float ONNX -> rewritten ONNX",
            "largest logit difference",
            max_abs_difference(onnx_logits, rewritten_logits),
            max(REWRITE_MAX_LOGIT_DIFFERENCE, REWRITE_MAX_RELATIVE_DIFFERENCE * largest),
        )
    ]


def check_quantization(rewritten_logits: Logits, qdq_logits: Logits) -> list[Check]:
    """Rewritten float ONNX against QDQ ONNX. Integers lose something, how much is for `kws benchmark` to say; with
    more noise than this the one was not made from the other."""
    return [
        at_least(
            "rewritten ONNX -> QDQ ONNX",
            "logit SQNR in dB",
            sqnr_db(rewritten_logits, qdq_logits),
            QUANTIZATION_MIN_SQNR_DB,
        )
    ]


def check_kernels(reference_logits: StepArray, tflm_logits: StepArray) -> list[Check]:
    """TFLite reference kernels against TensorFlow Lite Micro, on the same flatbuffer."""
    steps = step_differences(reference_logits, tflm_logits).max_steps
    figure = f"largest logit difference in {tflm_logits.dtype.name} steps"
    return [at_most("TFLite reference -> TFLM", figure, steps, _max_steps(tflm_logits))]


def check_device(qdq_logits: StepArray, tflm_logits: StepArray) -> list[Check]:
    """QDQ ONNX under onnxruntime against TensorFlow Lite Micro, both int8 or both int16 (clips, classes) with one
    affine.

    One clip may always have another winner, however few there are.
    """
    arrow = "QDQ ONNX -> TFLM"
    one_clip = 1 / max(1, len(qdq_logits))
    steps = _max_steps(tflm_logits)
    counted = "one int8 step" if steps == 1 else f"{steps} int16 steps"
    return [
        at_least(
            arrow,
            f"share of logits within {counted}",
            step_differences(qdq_logits, tflm_logits, within=steps).share_within,
            DEVICE_MIN_SHARE_WITHIN_STEPS,
        ),
        at_least(
            arrow,
            "share of clips with the same winning class",
            shared_winner(qdq_logits, tflm_logits),
            min(DEVICE_MIN_AGREEMENT, 1 - one_clip),
        ),
    ]


def _max_steps(logits: StepArray) -> int:
    return MAX_STEPS["int16" if logits.dtype == np.int16 else "int8"]


def require(checks: Sequence[Check]) -> None:
    """Raises KwsError with the sentence of the first check that did not pass."""
    for check in checks:
        if not check.passed:
            verdict = "this conversion is wrong for this model, so its result must not be used"
            raise KwsError(f"{check.sentence.removesuffix('.')}; {verdict}.")


def failed(arrow: str, reason: str) -> Check:
    """A check that could not be made; `reason` is a sentence."""
    return Check(name=arrow, value=math.nan, tolerance=math.nan, passed=False, sentence=f"{arrow}: {reason}")


def at_most(arrow: str, figure: str, value: float, tolerance: float) -> Check:
    """A check that passes if `value` is `tolerance` or less; NaN is not."""
    return _check(arrow, figure, value, tolerance, passed=value <= tolerance, bound="at most")


def at_least(arrow: str, figure: str, value: float, tolerance: float) -> Check:
    """A check that passes if `value` is `tolerance` or more; NaN is not."""
    return _check(arrow, figure, value, tolerance, passed=value >= tolerance, bound="at least")


def _check(arrow: str, figure: str, value: float, tolerance: float, *, passed: bool, bound: str) -> Check:
    return Check(
        name=f"{arrow}: {figure}",
        value=value,
        tolerance=tolerance,
        passed=passed,
        sentence=f"{arrow}: {figure} is {value:.6g} ({bound} {tolerance:g} is wanted).",
    )
