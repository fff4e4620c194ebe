"""What every form of a model answers on the same clips, as figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.metrics import Figures, Indices, accuracy, agreement, confusion_matrix, sqnr_db, summary
from kws.recordings import shown
from kws.statistics import (
    Flags,
    Interval,
    PairedTest,
    Scores,
    calibration,
    score_histogram,
    softmax,
    wilson_interval,
)

SCHEMA = 2
# In the order in which a model passes through them; after these comes the device's own, "int8" or "int16".
TORCH, FLOAT, QDQ, TFLITE = "torch", "float", "qdq", "tflite"
MAX_WORST_CLASSES = 5

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a model takes on a device.

    `arena_bytes` is measured under TFLM on this 64-bit host, `arena` (bytes by core) computed. `macs` and `params` are
    those of the network, None where it is not known. `estimated_instructions` of one inference by core, and
    "unmeasured_ops" that they leave out.
    """

    model_bytes: int
    arena_bytes: int
    arena: dict[str, int]
    macs: int | None
    params: int | None
    estimated_instructions: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class SnrPoint:
    """Accuracy of float and device on `clips` under noise at `snr_db`; None is without noise."""

    snr_db: float | None
    clips: int
    accuracy: dict[str, float]
    accuracy_interval: dict[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Figures of one build on one list of clips; accuracies, F1 and agreements are fractions.

    The keys of what is told of each form are "torch", "float" (ONNX), "qdq", "tflite" (TensorFlow Lite's reference
    kernels) and what the device computes with, "int8" or "int16" (TFLM's answers); the first may be missing. Intervals
    are those of `kws.statistics`, agreements and SQNR are with float. `per_class` to `scores` have float and device
    alone. `snr` is empty without noise to mix in.
    """

    build: str
    labels: list[str]
    clips: int
    accuracy: dict[str, float]
    accuracy_interval: dict[str, Interval]
    macro_f1: dict[str, float]
    agreements: dict[str, float]
    sqnrs_db: dict[str, float]
    mcnemar: PairedTest
    per_class: dict[str, list[dict[str, Any]]]
    confusion: dict[str, list[list[int]]]
    worst_classes: list[dict[str, Any]]
    disagreements: list[dict[str, Any]]
    snr: list[SnrPoint]
    calibration: dict[str, dict[str, Any]]
    scores: dict[str, dict[str, list[int]]]
    costs: Costs

    @property
    def forms(self) -> tuple[str, ...]:
        return tuple(self.accuracy)

    @property
    def device(self) -> str:
        """What the device computes with: "int8" or "int16"."""
        return self.forms[-1]

    @property
    def agreement(self) -> float:
        return self.agreements[self.device]

    @property
    def sqnr_db(self) -> float:
        return self.sqnrs_db[self.device]

    def as_json(self) -> dict[str, Any]:
        """What benchmark.json holds. JSON has no infinity: an SQNR without any noise is null. `snr_form` says whose
        answers under noise stand beside float's: the device's own, from TFLM."""
        values: dict[str, Any] = dataclasses.asdict(self)
        costs: dict[str, Any] = values.pop("costs")
        sqnrs_db = {form: value if np.isfinite(value) else None for form, value in self.sqnrs_db.items()}
        single = {"agreement": self.agreement, "sqnr_db": sqnrs_db[self.device], "sqnrs_db": sqnrs_db}
        return {"schema": SCHEMA} | values | single | {"snr_form": self.device} | costs


def compare(
    logits: Mapping[str, Logits],
    targets: Indices,
    *,
    build: str,
    labels: list[str],
    clip_names: Sequence[str],
    costs: Costs,
    snr: Sequence[SnrPoint] = (),
) -> Benchmark:
    """`logits` has float32 (n, classes) by form, in the order of the forms, of the integer ones dequantized; "float" is
    among them and the device's comes last. `targets` int64 (n,). Raises ValueError for no clips."""
    device = list(logits)[-1]
    pair = (FLOAT, device)
    answers = {form: values.argmax(axis=1) for form, values in logits.items()}
    figures = {form: summary(targets, answer, labels) for form, answer in answers.items()}
    matrices = {form: confusion_matrix(targets, answers[form], len(labels)) for form in pair}
    scores = {form: softmax(logits[form]).max(axis=1) for form in pair}
    right = {form: answers[form] == targets for form in pair}
    return Benchmark(
        build=build,
        labels=labels,
        clips=len(targets),
        accuracy={form: found.accuracy for form, found in figures.items()},
        accuracy_interval={form: _interval(answers[form] == targets) for form in figures},
        macro_f1={form: found.f1 for form, found in figures.items()},
        agreements={form: agreement(logits[FLOAT], values) for form, values in logits.items()},
        sqnrs_db={form: sqnr_db(logits[FLOAT], values) for form, values in logits.items()},
        mcnemar=PairedTest.of(right[FLOAT], right[device]),
        per_class={form: [dataclasses.asdict(one) for one in figures[form].per_class] for form in pair},
        confusion={form: matrix.tolist() for form, matrix in matrices.items()},
        worst_classes=_worst_classes(figures[device], matrices[device]),
        disagreements=_disagreements(answers, scores, targets, labels, clip_names),
        snr=list(snr),
        calibration={form: calibration(scores[form], right[form]) for form in pair},
        scores={form: score_histogram(scores[form], right[form]) for form in pair},
        costs=costs,
    )


def snr_point(snr_db: float | None, logits: Mapping[str, Logits], targets: Indices) -> SnrPoint:
    """`logits` (n, classes) of float and device on the same clips. Raises ValueError for no clips."""
    right = {form: values.argmax(axis=1) == targets for form, values in logits.items()}
    return SnrPoint(
        snr_db=snr_db,
        clips=len(targets),
        accuracy={form: accuracy(targets, values.argmax(axis=1)) for form, values in logits.items()},
        accuracy_interval={form: _interval(flags) for form, flags in right.items()},
    )


def _interval(right: Flags) -> Interval:
    return wilson_interval(int(right.sum()), len(right))


def _worst_classes(figures: Figures, matrix: Indices) -> list[dict[str, Any]]:
    """The classes of lowest F1, lowest first, among those that have clips."""
    labels = [one.label for one in figures.per_class]
    spoken = [index for index, one in enumerate(figures.per_class) if one.f1 is not None]
    worst = sorted(spoken, key=lambda index: figures.per_class[index].f1 or 0.0)[:MAX_WORST_CLASSES]
    found = []
    for index in worst:
        mistakes = matrix[index].copy()
        mistakes[index] = 0
        heard = labels[int(mistakes.argmax())] if mistakes.any() else None
        one = figures.per_class[index]
        found.append({"label": one.label, "recall": one.recall, "f1": one.f1, "most_heard_as": heard})
    return found


def _disagreements(
    answers: Mapping[str, Indices],
    scores: Mapping[str, Scores],
    targets: Indices,
    labels: list[str],
    clip_names: Sequence[str],
) -> list[dict[str, Any]]:
    """The clips that float and device answer differently, with both answers and their posteriors."""
    return [
        {"clip": shown(clip_names[i]), "label": labels[targets[i]]}
        | {form: labels[answers[form][i]] for form in scores}
        | {f"{form}_score": float(scores[form][i]) for form in scores}
        for i in np.flatnonzero(np.not_equal(*(answers[form] for form in scores))).tolist()
    ]
