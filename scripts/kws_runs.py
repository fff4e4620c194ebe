"""The kws commands that scripts run, hours of which may be stopped and gone on with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from kws.checkpoint import CHECKPOINT_NAME
from kws.errors import KwsError
from kws.training.run import METRICS_NAME
from kws.training.state import STATE_NAME


def exit_code(work: Callable[[], None]) -> int:
    """0, or 1 with one sentence about what `work` cannot go on without."""
    try:
        work()
    except KwsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def kws(*arguments: str) -> None:
    """Raises KwsError if the command fails, which has then said why."""
    if subprocess.run([sys.executable, "-m", "kws", *arguments], check=False).returncode != 0:
        raise KwsError(f"kws {arguments[0]} failed; mend it and run this again: what is done stays done.")


def is_trained(run: Path) -> bool:
    """Metrics are written once training has ended."""
    return (run / METRICS_NAME).is_file()


def trained(run: Path, data: Path, *options: str) -> Path:
    """The checkpoint in `run`: as it is, gone on with, or trained now."""
    if not is_trained(run):
        resume = ["--resume"] if (run / STATE_NAME).is_file() else []
        kws("train", str(data), "--out", str(run), *options, *resume)
    return run / CHECKPOINT_NAME


def built(build: Path, checkpoint: Path, data: Path) -> Path:
    """`build`, quantized now if it is not there."""
    if not (build / "manifest.json").is_file():
        kws("quantize", str(checkpoint), "--data", str(data), "--out", str(build))
    return build


def judged(report: Path, build: Path, data: Path) -> None:
    """`report` on the test clips and on running sound made of them, written now if it is not there."""
    if not (report / "benchmark.json").is_file():
        kws("benchmark", str(build), "--data", str(data), "--out", str(report), "--stream")
        kws("benchmark", str(build), "--data", str(data), "--out", str(report))
