"""benchmark.json and stream.json as the report reads them, with figures that nothing measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from kws.metrics import confusion_matrix, per_class
from kws.report.facts import DeviceFacts, Layer, MemoryBox, ReportFacts

FORMS = ("torch", "float", "qdq", "tflite", "int8")
CLIPS = 240


def benchmark_values(labels: list[str]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    said = rng.integers(0, len(labels), CLIPS)
    heard = {"float": np.where(rng.random(CLIPS) < 0.9, said, 0), "int8": np.where(rng.random(CLIPS) < 0.85, said, 1)}
    matrices = {form: confusion_matrix(said, heard[form], len(labels)) for form in heard}
    accuracy = {form: float((heard["int8" if form == "int8" else "float"] == said).mean()) for form in FORMS}
    interval = {form: [share - 0.03, min(1.0, share + 0.03)] for form, share in accuracy.items()}
    bins = [
        {"low": low / 10, "high": (low + 1) / 10, "clips": 9 * low, "confidence": low / 10, "accuracy": low / 11}
        if low
        else {"low": 0.0, "high": 0.1, "clips": 0, "confidence": None, "accuracy": None}
        for low in range(10)
    ]
    scores = {"right": [0] * 8 + list(range(12)), "wrong": [1] * 20}
    return {
        "labels": labels,
        "clips": CLIPS,
        "build": "build",
        "accuracy": accuracy,
        "accuracy_interval": interval,
        "agreement": 0.9918,
        "mcnemar": {"p_value": 0.25, "drop": accuracy["float"] - accuracy["int8"]},
        "per_class": {form: [vars(one) for one in per_class(matrices[form], labels)] for form in matrices},
        "confusion": {form: matrix.tolist() for form, matrix in matrices.items()},
        "disagreements": [
            {
                "clip": f"{labels[0]}/a_nohash_0.wav",
                "label": labels[0],
                "float": labels[0],
                "int8": labels[1],
                "float_score": 0.61,
                "int8_score": 0.47,
            }
        ],
        "snr": [
            {
                "snr_db": snr_db,
                "clips": CLIPS,
                "accuracy": {"float": share, "int8": share - 0.01},
                "accuracy_interval": {"float": [share - 0.03, share + 0.03], "int8": [share - 0.04, share + 0.02]},
            }
            for snr_db, share in ((None, 0.95), (20, 0.93), (10, 0.9), (5, 0.81), (0, 0.63))
        ],
        "calibration": {form: {"ece": 0.021, "bins": bins} for form in heard},
        "scores": dict.fromkeys(heard, scores),
        "model_bytes": 58_448,
        "arena": {"cortex_m4": 75_504, "cortex_m55": 76_912},
        "estimated_instructions": {"cortex_m4": 37_100_000, "cortex_m55": 21_800_000, "unmeasured_ops": 0},
    }


def stream_values(labels: list[str]) -> dict[str, Any]:
    curve = [
        {"threshold": at / 50, "false_accepts_per_hour": (50 - at) ** 2 / 200, "false_reject_rate": (at / 50) ** 3}
        for at in range(20, 51)
    ]
    return {
        "labels": labels,
        "hours": 1.0,
        "words": 500,
        "det": {"int8": curve},
        "operating_point": {
            "false_accepts_per_hour": 1.0,
            "false_accepts_interval": [0.03, 5.57],
            "false_reject_rate": 0.07,
            "latency_ms": {"median": 240.0, "p90": 410.0, "max": None},
        },
    }


def device_values() -> DeviceFacts:
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "GATHER")
    return DeviceFacts(
        core="cortex_m4",
        layers=[
            Layer(index=at, op=kinds[at % 4], shape=(1, 40, 98, 16), sqnr_db=None if at % 9 == 0 else 40 - at / 4)
            for at in range(60)
        ],
        compared_clips=50,
        memory=[
            MemoryBox(name=kinds[at % 4], offset=512 * (at % 7), size_bytes=512, first=at, last=at + 3)
            for at in range(60)
        ],
        bookkeeping_bytes=12_000,
        flash={"weights": 16_144, "graph": 24_810, "code, about": 93_000},
        ram={"arena": 75_504, "front end": 3_172},
    )


def report_values(labels: list[str], *, whole: bool = True) -> ReportFacts:
    """`whole` has all that a report may show; else nothing that a build or data may lack."""
    epochs = [
        {"epoch": float(at), "loss": 2.0 / at, "validation_accuracy": 1 - 0.9 / at, "learning_rate": 0.01}
        for at in range(1, 40)
    ]
    found = benchmark_values(labels)
    device = device_values()
    if whole:
        return ReportFacts(
            benchmark=found, stream=stream_values(labels), training=epochs, device=device, versions={"kws": "0.1.0"}
        )
    bare = DeviceFacts(**{**vars(device), "compared_clips": 0})
    return ReportFacts(
        benchmark=found | {"snr": [], "disagreements": []}, stream=None, training=[], device=bare, versions={}
    )
