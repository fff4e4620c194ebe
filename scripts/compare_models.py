"""What trained models cost and how well they answer in float and int8, as one Markdown table.

    python -m scripts.compare_models CHECKPOINT... --data DATA [--optimize GOAL]

Quantizes each checkpoint as `kws quantize` does and judges it as `kws benchmark` does, on the test clips of DATA.
Checkpoints that differ in seed alone share a row, of which the figures are means.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from export.arena_32_bit import arena_on
from export.build import ModelFiles
from export.evaluate import judge_data
from export.from_checkpoint import build_checkpoint
from export.tflite_reader import parse_tflite, read_tflite_bytes
from kws.benchmark import FLOAT, Benchmark
from kws.checkpoint import Checkpoint, load_checkpoint
from kws.errors import KwsError
from kws.progress import note
from quantize.options import GOALS, QuantizeOptions
from scripts.markdown import table

INT8 = "int8"
HEADINGS = [
    *("model", "activation", "hop", "seeds", "float", "int8", "int8 - float, points", "same answer", "logit SQNR"),
    *("`.tflite`, bytes", "arena on Cortex-M4, bytes", "instructions on Cortex-M4", "on Cortex-M55", "seconds"),
]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What checkpoints of one row have in common."""

    model: str
    activation: str
    hop_ms: float

    @staticmethod
    def of(checkpoint: Checkpoint) -> Kind:
        return Kind(
            model=checkpoint.model.name,
            activation=checkpoint.model.activation,
            hop_ms=1000 * checkpoint.features.hop_samples / checkpoint.features.sample_rate_hz,
        )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One checkpoint: its training seed, its figures on the test clips, its arena on Cortex-M4 and the seconds that
    converting it and proving the conversion took."""

    seed: int
    benchmark: Benchmark
    arena_bytes: int
    seconds: float

    @property
    def lost_points(self) -> float:
        return 100 * (self.benchmark.accuracy[INT8] - self.benchmark.accuracy[FLOAT])


def read_checkpoints(paths: Sequence[Path]) -> dict[Path, Checkpoint]:
    """Raises KwsError for a file that is no checkpoint, or one that knows other labels than the first."""
    found = {path: load_checkpoint(path) for path in paths}
    for path, checkpoint in found.items():
        if checkpoint.labels != found[paths[0]].labels:
            raise KwsError(f"{path}: knows other labels than {paths[0]}; compare checkpoints of the same words.")
    return found


def judge(path: Path, seed: int, data: Path, options: QuantizeOptions) -> Judged:
    """Raises KwsError if `path` cannot be converted or does not fit `data`."""
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder) / "build"
        started = time.monotonic()
        build_checkpoint(path, data, build, options)
        seconds = time.monotonic() - started
        tflite = build / ModelFiles(options.activations).tflite
        facts = parse_tflite(read_tflite_bytes(tflite), str(tflite))
        return Judged(
            seed=seed,
            benchmark=judge_data(build, data),
            arena_bytes=arena_on("cortex_m4", facts).needed,
            seconds=seconds,
        )


def row(kind: Kind, judged: Sequence[Judged]) -> list[str]:
    """The cells under HEADINGS."""
    results = [one.benchmark for one in judged]
    lost = [one.lost_points for one in judged]
    instructions = [
        [result.costs.estimated_instructions[core] for result in results] for core in ("cortex_m4", "cortex_m55")
    ]
    return [
        kind.model,
        kind.activation,
        f"{kind.hop_ms:g} ms",
        ", ".join(str(one.seed) for one in judged),
        *[f"{mean(result.accuracy[form] for result in results):.2%}" for form in (FLOAT, INT8)],
        f"{mean(lost):+.2f}" + (f" ({min(lost):+.2f} .. {max(lost):+.2f})" if len(lost) > 1 else ""),
        f"{mean(result.agreement for result in results):.2%}",
        f"{mean(result.sqnr_db for result in results):.1f} dB",
        span(result.costs.model_bytes for result in results),
        span(one.arena_bytes for one in judged),
        *[f"{mean(counts) / 1e6:.1f} M" for counts in instructions],
        f"{mean(one.seconds for one in judged):.0f}",
    ]


def span(values: Iterable[int]) -> str:
    """One number if all are equal, else the lowest and the highest."""
    ends = sorted(set(values))
    return f"{ends[0]:,}" if len(ends) == 1 else f"{ends[0]:,} .. {ends[-1]:,}"


def compare(paths: Sequence[Path], data: Path, options: QuantizeOptions) -> str:
    """The table. Raises KwsError before it converts anything if a checkpoint cannot be used."""
    groups: dict[Kind, list[Judged]] = {}
    for path, checkpoint in read_checkpoints(paths).items():
        note(str(path))
        judged = judge(path, checkpoint.train.seed, data, options)
        groups.setdefault(Kind.of(checkpoint), []).append(judged)
    return table(HEADINGS, [row(kind, judged) for kind, judged in groups.items()])


def main() -> int:
    defaults = QuantizeOptions()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="checkpoint.pt of kws train")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="the folder they were trained on")
    parser.add_argument(
        "--optimize",
        choices=GOALS,
        default=defaults.optimize,
        help=f"as of kws quantize (default: {defaults.optimize})",
    )
    options = parser.parse_args()
    try:
        print(compare(options.checkpoints, options.data, QuantizeOptions(optimize=options.optimize)))
    except KwsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
