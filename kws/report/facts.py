"""What a report is made of: the JSON of `kws benchmark`, the log of training, and the inside of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An op of the .tflite, its output's shape (NHWC) and SQNR in dB; None where it has no float counterpart."""

    index: int
    op: str
    shape: tuple[int, ...]
    sqnr_db: float | None


@dataclass(frozen=True, kw_only=True)
class MemoryBox:
    """Arena bytes `offset` .. `offset` + `size_bytes`, in use from op `first` to op `last`, both included."""

    name: str
    offset: int
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    """The model inside: `memory` is the head of the arena on `core`, `bookkeeping_bytes` its tail; `flash` and `ram`
    are bytes by part, in the order they are to be shown."""

    core: str
    layers: Sequence[Layer]
    compared_clips: int
    memory: Sequence[MemoryBox]
    bookkeeping_bytes: int
    flash: Mapping[str, int]
    ram: Mapping[str, int]

    @property
    def head_bytes(self) -> int:
        return max((box.offset + box.size_bytes for box in self.memory), default=0)


@dataclass(frozen=True, kw_only=True)
class ReportFacts:
    """`benchmark` and `stream` are benchmark.json and stream.json; `training` has a row an epoch, empty if unknown."""

    benchmark: Json
    stream: Json | None
    training: Sequence[Mapping[str, float]]
    device: DeviceFacts
    versions: Mapping[str, str]

    @property
    def device_form(self) -> str:
        """ "int8" or "int16": what the device computes with."""
        form: str = next(form for form in ("int8", "int16") if form in self.benchmark["accuracy"])
        return form
