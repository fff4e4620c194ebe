"""A training in mlflow: parameters, the figures of each epoch, and the files of the run.

    tracker = open_tracker(track=True, uri=None, experiment="kws", run_name="run")
    tracker.start({"train": to_dict(config)}, {"kws.version": __version__})          # before anything takes long
    tracker.start(..., run_id=state.tracking_run, history=log.history)               # instead, with --resume
    tracker.epoch(1, {"loss": 2.3, "validation_accuracy": 0.4})
    tracker.finish({"test_accuracy": 0.93}, [checkpoint, metrics, *write_extra_files(...)])
    tracker.abort()                                                                  # instead, if training ends early

`tracker.run_id` goes into the state of the run. Only `start` raises; a store that fails later costs no training.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from kws.artifact import write_text
from kws.errors import KwsError
from kws.metrics import Indices
from kws.pictures import CONFUSION_NAME, draw_confusion
from kws.progress import note
from kws.terminal import visible
from kws.training.store import DEFAULT_URI, INSTALL, StoreAddress, import_mlflow

EXPERIMENT = "kws"
LABELS_NAME = "labels.txt"
# The least that mlflow's stores, old ones included, accept.
PARAMETER_CHARACTERS = 500
Values = Mapping[str, float | int]


class Tracker(Protocol):
    """What a training tells about itself. `run_id` is "" before `start` and where nothing is tracked."""

    @property
    def run_id(self) -> str: ...

    def start(
        self,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        run_id: str = "",
        history: Sequence[Values] = (),
    ) -> None:
        """Begin a run, or go on with `run_id`, whose epochs so far, with their "epoch", are `history`.

        `parameters` may be nested: {"train": {"epochs": 60}} becomes train.epochs. Raises KwsError.
        """

    def epoch(self, epoch: int, metrics: Values) -> None:
        """The figures after `epoch`, counted from 1."""

    def finish(self, metrics: Values, artifacts: Sequence[Path]) -> tuple[str, ...]:
        """The final figures and the files to keep. Returns, and says, what could not be logged."""

    def abort(self) -> None:
        """Training ends early; the run can go on with its `run_id`."""


class NoTracker:
    run_id = ""

    def start(
        self,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        run_id: str = "",
        history: Sequence[Values] = (),
    ) -> None:
        pass

    def epoch(self, epoch: int, metrics: Values) -> None:
        pass

    def finish(self, metrics: Values, artifacts: Sequence[Path]) -> tuple[str, ...]:
        return ()

    def abort(self) -> None:
        pass


def open_tracker(*, track: bool, uri: str | None, run_name: str, experiment: str = EXPERIMENT) -> Tracker:
    """A `uri` asks for tracking, too. Raises KwsError if mlflow is asked for and not installed."""
    return MlflowTracker(uri, experiment, run_name) if track or uri else NoTracker()


class MlflowTracker:
    """After the first failure the store counts as lost: figures are kept, and sent once more at the end."""

    def __init__(self, uri: str | None, experiment: str, run_name: str) -> None:
        """`uri` as mlflow knows it; None is that of MLFLOW_TRACKING_URI, or else mlflow.db in the working folder.

        Raises KwsError if `uri` is no address, or mlflow is not installed.
        """
        self.address = StoreAddress.of(uri)
        self._mlflow = import_mlflow()
        self._experiment, self._run_name = experiment, run_name
        self._run_id = ""
        self._last_epoch = 0
        self._waiting: list[Any] = []
        self._known: set[tuple[str, int, float]] = set()
        self._is_lost = False

    @property
    def run_id(self) -> str:
        return self._run_id

    def start(
        self,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        run_id: str = "",
        history: Sequence[Values] = (),
    ) -> None:
        """See Tracker. Raises KwsError within some seconds if the store cannot be reached or has no such run."""
        flat = flatten(parameters)
        try:
            with self.address.quickly():
                self._client = self._mlflow.tracking.MlflowClient(self.address.uri)
                if run_id:
                    self._go_on(run_id, flat, tags)
                else:
                    self._begin(flat, tags)
                for figures in history:
                    self._queue(int(figures["epoch"]), figures)
                self._send()
                page = self._page()
        except Exception as error:
            raise self._refusal(error, run_id) from error
        note(f"Tracking in mlflow at {self.address.shown}; to see it: {page or self._how_to_see()}")

    def epoch(self, epoch: int, metrics: Values) -> None:
        self._queue(epoch, metrics)
        if self._is_lost:
            return
        try:
            with self.address.quickly():
                self._send()
        except Exception as error:
            self._is_lost = True
            note(
                f"mlflow at {self.address.shown} was lost in epoch {epoch} ({self.address.reason(error)}); "
                "training goes on, and what it misses is sent once more at the end."
            )

    def finish(self, metrics: Values, artifacts: Sequence[Path]) -> tuple[str, ...]:
        final = self._new_metrics(self._last_epoch, metrics)
        steps: list[tuple[str, Callable[[], None]]] = [
            ("the final figures", lambda: self._log(final)),
            *((path.name, partial(self._log_file, path)) for path in artifacts),
            ("that it is finished", lambda: self._client.set_terminated(self._run_id, "FINISHED")),
        ]
        try:
            with self.address.quickly():
                self._send()
                while steps:
                    steps[0][1]()
                    del steps[0]
        except Exception as error:
            missing = (*self._unsent_epochs(), *(name for name, _ in steps))
            note(f"Not in mlflow at {self.address.shown} ({self.address.reason(error)}): {', '.join(missing)}.")
            return missing
        return ()

    def abort(self) -> None:
        if self._is_lost or not self._run_id:
            return
        try:
            with self.address.quickly():
                self._client.set_terminated(self._run_id, "KILLED")
        except Exception as error:
            note(f"mlflow at {self.address.shown} was not told that training ended ({self.address.reason(error)}).")

    def _begin(self, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        run = self._client.create_run(self._experiment_id(), run_name=self._run_name, tags=dict(tags))
        self._run_id = run.info.run_id
        self._log_parameters(parameters)

    def _go_on(self, run_id: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """A run's parameters cannot change; where they do, a tag `resumed.NAME` says what they are now."""
        data = self._client.get_run(run_id).data
        self._client.update_run(run_id, status="RUNNING")
        self._run_id = run_id
        self._log_parameters({name: value for name, value in parameters.items() if name not in data.params})
        changed = {
            f"resumed.{name}": value for name, value in parameters.items() if data.params.get(name, value) != value
        }
        for name, value in (dict(tags) | changed).items():
            self._client.set_tag(run_id, name, value)
        for name in data.metrics:
            history = self._client.get_metric_history(run_id, name)
            self._known |= {(name, metric.step, metric.value) for metric in history}

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        return str(found.experiment_id if found else self._client.create_experiment(self._experiment))

    def _log_parameters(self, parameters: Mapping[str, str]) -> None:
        entries = [self._mlflow.entities.Param(name, value) for name, value in parameters.items()]
        self._client.log_batch(self._run_id, params=entries)

    def _new_metrics(self, epoch: int, values: Values) -> list[Any]:
        """Those numbers that the store does not have yet, stamped with the present time."""
        now_ms = time.time_ns() // 1_000_000
        return [
            self._mlflow.entities.Metric(name, float(value), now_ms, epoch)
            for name, value in values.items()
            if name != "epoch" and (name, epoch, float(value)) not in self._known
        ]

    def _queue(self, epoch: int, values: Values) -> None:
        self._last_epoch = epoch
        self._waiting += self._new_metrics(epoch, values)

    def _send(self) -> None:
        self._log(self._waiting)
        self._waiting = []

    def _log(self, metrics: list[Any]) -> None:
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics)

    def _log_file(self, path: Path) -> None:
        self._client.log_artifact(self._run_id, str(path))

    def _unsent_epochs(self) -> tuple[str, ...]:
        epochs = [metric.step for metric in self._waiting]
        if not epochs:
            return ()
        first, last = min(epochs), max(epochs)
        return (f"epoch {first}",) if first == last else (f"epochs {first} to {last}",)

    def _page(self) -> str:
        if not self.address.is_http:
            return ""
        experiment = self._client.get_run(self._run_id).info.experiment_id
        return f"{self.address.shown}/#/experiments/{experiment}/runs/{self._run_id}"

    def _how_to_see(self) -> str:
        shown_by_default = (DEFAULT_URI, f"sqlite:///{Path('mlflow.db').absolute()}")
        if self.address.uri == DEFAULT_URI and self._mlflow.get_tracking_uri() in shown_by_default:
            return "mlflow ui"
        return f"mlflow ui --backend-store-uri {self.address.shown}"

    def _refusal(self, error: Exception, run_id: str) -> KwsError:
        where, reason = self.address.shown, self.address.reason(error)
        if not self.address.is_http and importlib.util.find_spec("sqlalchemy") is None:
            return KwsError(f"mlflow at {where} needs sqlalchemy, which is not installed; run {INSTALL}.")
        if isinstance(error, ModuleNotFoundError):
            return KwsError(f"mlflow at {where} needs {error.name}, which is not installed; install it with pip.")
        if run_id and getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
            return KwsError(
                f"mlflow at {where} has no run {run_id}, in which this training began; "
                "name its store with --tracking-uri, or train without tracking."
            )
        return KwsError(
            f"mlflow at {where} cannot be used ({reason}); start it, correct --tracking-uri, or train without tracking."
        )


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"train": {"epochs": 60}} -> {"train.epochs": "60"}; lists are joined by commas, long texts cut."""
    flat: dict[str, str] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            flat[f"{prefix}{name}"] = (
                text if len(text) <= PARAMETER_CHARACTERS else text[: PARAMETER_CHARACTERS - 1] + "…"
            )
    return flat


def write_extra_files(out: Path, labels: list[str], matrix: Indices, title: str) -> list[Path]:
    """Write `out`/labels.txt, a label a line in the order of the outputs, and `out`/confusion.png; return both.

    `matrix` is int64 (classes, classes).
    """
    write_text(out / LABELS_NAME, "".join(f"{visible(label)}\n" for label in labels))
    draw_confusion(out / CONFUSION_NAME, matrix, labels, title)
    return [out / LABELS_NAME, out / CONFUSION_NAME]
