"""Figures that judge predictions against targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.config import FIGURES
from kws.errors import KwsError

Indices = npt.NDArray[np.int64]


def confusion_matrix(targets: Indices, predictions: Indices, classes: int) -> Indices:
    """int64 (classes, classes): rows are targets, columns predictions."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (targets, predictions), 1)
    return matrix


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """Of one class, each 0..1; None where there is nothing to divide by.

    Precision is None for a class that was never predicted, recall and F1 for one without clips.
    """

    label: str
    clips: int
    precision: float | None
    recall: float | None
    f1: float | None


def per_class(matrix: Indices, labels: list[str]) -> list[ClassFigures]:
    hits, predicted, clips = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return [
        ClassFigures(
            label=label,
            clips=int(clips[i]),
            precision=float(hits[i] / predicted[i]) if predicted[i] else None,
            recall=float(hits[i] / clips[i]) if clips[i] else None,
            f1=float(2 * hits[i] / (clips[i] + predicted[i])) if clips[i] else None,
        )
        for i, label in enumerate(labels)
    ]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one list of clips, all 0..1. `precision`, `recall` and `f1` are macro averages: each class counts the same.

    The averages are those of scikit-learn with zero_division=0 (a class that was never predicted has precision 0
    and F1 0), but over the classes that have clips only: one without clips says nothing about the network.
    In the weighted ones a class counts as its clips do; weighted recall would be the accuracy.
    """

    clips: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    weighted_precision: float
    weighted_f1: float
    per_class: list[ClassFigures]

    def averages(self) -> dict[str, float]:
        """All but the clips and the classes, by name, for logs."""
        return {name: value for name, value in vars(self).items() if name not in ("clips", "per_class")}

    def by(self, name: str) -> float:
        """The figure that `name`, one of FIGURES, says. Raises KwsError for any other name."""
        if name not in FIGURES:
            raise KwsError(f"There is no figure {name!r} to choose by: take one of {', '.join(FIGURES)}.")
        return self.averages()[name]


def summary(targets: Indices, predictions: Indices, labels: list[str]) -> Figures:
    """All figures of `predictions` int64 (n,) against `targets` int64 (n,). Raises ValueError for no clips."""
    share_right = accuracy(targets, predictions)
    classes = per_class(confusion_matrix(targets, predictions, len(labels)), labels)
    spoken = [one for one in classes if one.clips]
    clips = [one.clips for one in spoken]
    precisions = [one.precision or 0.0 for one in spoken]
    f1s = [one.f1 or 0.0 for one in spoken]
    return Figures(
        clips=len(targets),
        accuracy=share_right,
        precision=float(np.mean(precisions)),
        recall=float(np.mean([one.recall or 0.0 for one in spoken])),
        f1=float(np.mean(f1s)),
        weighted_precision=float(np.average(precisions, weights=clips)),
        weighted_f1=float(np.average(f1s, weights=clips)),
        per_class=classes,
    )


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
