"""Benchmarks of made-up answers."""

from __future__ import annotations

import numpy as np

from kws.benchmark import Benchmark, Costs, SnrPoint, compare, snr_point

INSTRUCTIONS = {"cortex_m4": 48_111_703, "cortex_m55": 31_430_028, "unmeasured_ops": 0}
LABELS = ["_silence_", "[red]yes[/red]", "line\nbreak"]


def costs(model_bytes: int = 1000, instructions: dict[str, int] = INSTRUCTIONS, macs: int | None = 2_000) -> Costs:
    return Costs(
        model_bytes=model_bytes,
        arena_bytes=2000,
        arena={"cortex_m4": 1600, "cortex_m55": 1700},
        macs=macs,
        params=macs,
        estimated_instructions=instructions,
    )


def answers(winners: list[int], classes: int = 3) -> np.ndarray:
    """float32 logits (n, classes) that are 1 for the winner, else 0."""
    return np.eye(classes, dtype=np.float32)[winners]


def benchmark(
    wrong: int = 1, device: str = "int8", build: str = "build", labels: list[str] = LABELS, noise: bool = False
) -> Benchmark:
    """On 8 clips, all of which float has right; the device mistakes the last `wrong` for the class before."""
    said = [0, 1, 2, 1, 0, 1, 2, 1]
    targets = np.array(said)
    heard = [*said[: len(said) - wrong], *[(index - 1) % 3 for index in said[len(said) - wrong :]]]
    logits = {"torch": answers(said), "float": answers(said), "qdq": answers(said), "tflite": answers(heard)}
    logits[device] = answers(heard)
    spoken = {"float": answers(said)[1:], device: answers(heard)[1:]}
    snr: list[SnrPoint] = [snr_point(level, spoken, targets[1:]) for level in (None, 10.0)] if noise else []
    return compare(
        logits,
        targets,
        build=build,
        labels=labels,
        clip_names=[f"clip-{index}" for index in range(len(said))],
        costs=costs(),
        snr=snr,
    )
