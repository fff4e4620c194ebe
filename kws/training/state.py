"""What a killed run needs to go on to the very weights that it would have reached: RUN/training_state.pt."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kws.checkpoint import read_tensors, write_tensors
from kws.errors import KwsError

STATE_NAME = "training_state.pt"
STATE_SCHEMA = 1
REMEDY = "train again without --resume"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """After as many epochs as `history` has. `identity` says of which run; dictionaries of tensors are state dicts."""

    identity: dict[str, Any]
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    average_steps: int
    optimizer: dict[str, Any]
    best: dict[str, Tensor]
    best_epoch: int
    history: list[dict[str, Any]]
    tracking_run: str


def save_state(folder: Path, state: TrainingState) -> None:
    """Replace the state in `folder` at once: a kill or a full disk leaves the one before it."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(TrainingState)}
    write_tensors(folder / STATE_NAME, {"schema": STATE_SCHEMA} | fields)


def load_state(folder: Path, identity: dict[str, Any]) -> TrainingState:
    """Raises KwsError if there is none, it is damaged, or it is not of the run that `identity` describes."""
    path = folder / STATE_NAME
    content = read_tensors(path, STATE_SCHEMA, "state of an unfinished training", REMEDY)
    del content["schema"]
    if set(content) != {field.name for field in dataclasses.fields(TrainingState)}:
        raise KwsError(f"{path}: was written by another version of kws; {REMEDY}.")
    state = TrainingState(**content)
    for name, value in identity.items():
        if state.identity.get(name) != value:
            before = state.identity.get(name)
            raise KwsError(
                f"{path}: began with {name} {before}, not {value}; resume with the options it began with, or {REMEDY}."
            )
    return state


def remove_state(folder: Path) -> None:
    """Of a finished run, and what a kill in the middle of writing left."""
    (folder / STATE_NAME).unlink(missing_ok=True)
    for part in folder.glob(f".{STATE_NAME}.*.part"):
        part.unlink(missing_ok=True)
