"""What is told of a run while it goes on: lines for a person, rows in training.csv, and mlflow where asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kws import __version__
from kws.metrics import Indices
from kws.progress import note
from kws.training.log import LOG_NAME, TrainingLog
from kws.training.tracking import NoTracker, Tracker, write_extra_files


class Records:
    """Of the process that writes; in the others (`is_writer` False) every call does nothing."""

    def __init__(self, out: Path, is_writer: bool, tracker: Tracker | None = None) -> None:
        self.out, self.is_writer = out, is_writer
        self.tracker: Tracker = (tracker if is_writer else None) or NoTracker()
        self._log: TrainingLog | None = None

    def start(self, parameters: Mapping[str, Any], epochs_done: int, tracking_run: str) -> None:
        """Begin, or go on after `epochs_done`. Raises KwsError if a log or store cannot be used."""
        if not self.is_writer:
            return
        path = self.out / LOG_NAME
        self._log = TrainingLog.resume(path, epochs_done) if epochs_done else TrainingLog(path)
        tags = {"kws.version": __version__}
        self.tracker.start(parameters, tags, run_id=tracking_run, history=self._log.history)

    def epoch(self, figures: Mapping[str, float | int]) -> None:
        if self._log is not None:
            self._log.epoch(figures)
            self.tracker.epoch(int(figures["epoch"]), figures)

    def finish(
        self, metrics: Mapping[str, float], files: Sequence[Path], labels: list[str], matrix: Indices, title: str
    ) -> None:
        """Close all; `matrix` int64 (classes, classes) is of the test split."""
        if self._log is None:
            return
        self._log.close()
        if not isinstance(self.tracker, NoTracker):
            extra = write_extra_files(self.out, labels, matrix, title)
            self.tracker.finish(metrics, [*files, self.out / LOG_NAME, *extra])

    def abort(self) -> None:
        """Training ends early; a log without an epoch is no log."""
        if self._log is None:
            return
        self._log.close()
        if not self._log.history:
            self._log.path.unlink(missing_ok=True)
        self.tracker.abort()

    def say(self, text: str) -> None:
        if self.is_writer:
            note(text)
