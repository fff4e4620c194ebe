"""Figures that judge predictions against targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError

Indices = npt.NDArray[np.int64]


def confusion_matrix(targets: Indices, predictions: Indices, classes: int) -> Indices:
    """int64 (classes, classes): rows are targets, columns predictions."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (targets, predictions), 1)
    return matrix


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """Of one class; precision and recall are None where nothing was predicted or no clip has it."""

    label: str
    clips: int
    precision: float | None
    recall: float | None


def per_class(matrix: Indices, labels: list[str]) -> list[ClassFigures]:
    hits, predicted, clips = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return [
        ClassFigures(
            label=label,
            clips=int(clips[i]),
            precision=float(hits[i] / predicted[i]) if predicted[i] else None,
            recall=float(hits[i] / clips[i]) if clips[i] else None,
        )
        for i, label in enumerate(labels)
    ]


def accuracy(targets: Indices, predictions: Indices) -> float:
    """Fraction of clips whose prediction is their target. Raises ValueError for no clips."""
    if len(targets) == 0:
        raise ValueError("accuracy of no clips")
    return float(np.mean(targets == predictions))


def agreement(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """The share (0..1) of clips on which both (clips, classes) have the same winning class."""
    first, second = pair(a, b)
    return float(np.mean(first.argmax(axis=1) == second.argmax(axis=1)))


def sqnr_db(reference: npt.ArrayLike, candidate: npt.ArrayLike) -> float:
    """Signal to quantization noise, 10 log10(sum reference^2 / sum (reference - candidate)^2), in dB.

    Infinite if both are equal. Raises KwsError if shapes differ or `reference` is all zero.
    """
    signal, other = pair(reference, candidate)
    power, noise = float(np.square(signal).sum()), float(np.square(signal - other).sum())
    if power == 0.0:
        raise KwsError("The reference of an SQNR is all zero; compare on clips that the model answers.")
    return float("inf") if noise == 0.0 else 10.0 * float(np.log10(power / noise))


def pair(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both in float64. Raises KwsError if they are empty or differ in shape."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.size == 0:
        raise KwsError(f"Arrays of shapes {first.shape} and {second.shape} cannot be compared; give equal ones.")
    return first, second
