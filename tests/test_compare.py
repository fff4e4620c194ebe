"""quantize.compare: figures that mean what they say, checks that fail past their tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from kws.errors import KwsError
from quantize import compare

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 4)).astype(np.float32)


def int8(values: object) -> np.ndarray:
    return np.asarray(values, dtype=np.int8)


def test_largest_difference_is_absolute() -> None:
    assert compare.max_abs_difference([1.0, -5.0], [1.5, -3.0]) == 2.0


def test_step_differences_do_not_wrap_around_in_int8() -> None:
    found = compare.step_differences(int8([-128, 0, 5, 7]), int8([127, 0, 6, 5]))
    assert found == compare.StepDifferences(share_equal=0.25, share_within=0.5, max_steps=255)


def test_arrows_pass_on_equal_logits() -> None:
    steps = RNG.integers(-100, 100, size=(50, 4)).astype(np.int8)
    compare.require(compare.check_export(LOGITS, LOGITS) + compare.check_rewrite(LOGITS, LOGITS))
    compare.require(compare.check_kernels(steps, steps) + compare.check_device(steps, steps))


@pytest.mark.parametrize(
    ("check", "tolerance", "arrow"),
    [
        (compare.check_export, 1e-4, "torch -> float ONNX"),
        (compare.check_rewrite, 1e-3, "float ONNX -> rewritten ONNX"),
    ],
)
def test_float_arrows_fail_just_past_their_tolerance(check, tolerance: float, arrow: str) -> None:  # type: ignore[no-untyped-def]
    nearly = LOGITS.astype(np.float64)
    nearly[3, 1] += 0.9 * tolerance
    compare.require(check(LOGITS, nearly))
    nearly[3, 1] += 0.2 * tolerance
    with pytest.raises(KwsError, match=rf"{arrow}: .* is 0\.00.*at most {tolerance:g}"):
        compare.require(check(LOGITS, nearly))


def test_a_quantized_model_of_other_logits_fails_and_a_noisy_one_passes() -> None:
    noise = RNG.normal(size=LOGITS.shape).astype(np.float32)
    compare.require(compare.check_quantization(LOGITS, LOGITS + 0.2 * noise))
    for other in (noise, np.zeros_like(LOGITS), np.float32(1.3) * LOGITS):
        with pytest.raises(KwsError, match=r"rewritten ONNX -> QDQ ONNX: logit SQNR in dB is .*at least 12 is wanted"):
            compare.require(compare.check_quantization(LOGITS, other))


def test_logits_that_are_not_a_number_fail() -> None:
    broken = LOGITS.copy()
    broken[0, 0] = np.nan
    with pytest.raises(KwsError, match="is nan"):
        compare.require(compare.check_export(LOGITS, broken))


def test_kernels_may_differ_by_one_step_and_not_by_two() -> None:
    reference = int8([[1, 2], [3, 4]])
    compare.require(compare.check_kernels(reference, int8([[2, 1], [3, 5]])))
    with pytest.raises(KwsError, match=r"TFLite reference -> TFLM: .* is 2 \(at most 1 is wanted\)"):
        compare.require(compare.check_kernels(reference, int8([[1, 4], [3, 4]])))


def test_int16_logits_may_be_off_by_a_sixteenth_of_an_int8_step() -> None:
    logits = RNG.integers(-30000, 20000, size=(50, 4)).astype(np.int16)
    logits[:, 0] += 10000
    for check in (compare.check_kernels, compare.check_device):
        compare.require(check(logits, logits + np.int16(16)))
        with pytest.raises(KwsError, match="int16 steps is"):
            compare.require(check(logits, logits + np.int16(17)))
    with pytest.raises(KwsError, match="only be counted between int8 or between int16"):
        compare.step_differences(int8([1]), np.array([1], np.int16))


def test_device_may_be_off_by_a_step_often_and_by_two_once_in_a_hundred() -> None:
    logits = RNG.integers(-100, 90, size=(100, 12)).astype(np.int8)
    winners = logits.argmax(axis=1)
    logits[np.arange(100), winners] += 10
    compare.require(compare.check_device(logits, logits + RNG.integers(-1, 2, size=logits.shape).astype(np.int8)))
    off = logits.copy()
    off.flat[np.flatnonzero(off < logits.max(axis=1, keepdims=True))[:12]] -= 2
    compare.require(compare.check_device(logits, off))
    off.flat[np.flatnonzero(off < logits.max(axis=1, keepdims=True))[:13]] -= 2
    with pytest.raises(KwsError, match=r"QDQ ONNX -> TFLM: share of logits within one int8 step is 0\.98"):
        compare.require(compare.check_device(logits, off))


def test_device_may_answer_one_clip_in_a_hundred_otherwise() -> None:
    logits = np.tile(int8([10, 9, 0]), (200, 1))
    other = logits.copy()
    other[:2] = [9, 10, 0]
    compare.require(compare.check_device(logits, other))
    other[:3] = [9, 10, 0]
    with pytest.raises(KwsError, match=r"same winning class is 0\.985"):
        compare.require(compare.check_device(logits, other))


def test_a_tie_is_won_by_each_of_its_classes() -> None:
    tied, first, second = int8([[7, 7, 0]]), int8([[7, 6, 0]]), int8([[6, 7, 0]])
    assert compare.shared_winner(tied, first) == compare.shared_winner(tied, second) == 1.0
    assert compare.shared_winner(first, second) == 0.0


def test_among_few_clips_one_may_have_another_winner_but_not_two() -> None:
    logits = np.tile(int8([10, 9, 0]), (20, 1))
    other = logits.copy()
    other[0] = [9, 10, 0]
    compare.require(compare.check_device(logits, other))
    other[1] = [9, 10, 0]
    assert not compare.check_device(logits, other)[1].passed


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(KwsError, match=r"shapes \(2,\) and \(3,\)"):
        compare.max_abs_difference([1, 2], [1, 2, 3])
    with pytest.raises(KwsError, match="only be counted between int8"):
        compare.step_differences(int8([1]), np.array([1.0]))  # type: ignore[arg-type]
