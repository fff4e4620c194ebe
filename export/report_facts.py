"""A build -> what a report shows of its inside: rounding by layer, the arena's shape, flash and RAM by part."""

from __future__ import annotations

from pathlib import Path

from export.arena_32_bit import arena_layout, arena_on
from export.build import FLOAT_ONNX
from export.firmware_cost import CODE_BYTES, firmware_cost
from export.firmware_model import FirmwareModel
from export.inspection import Inspection, inspect_model
from export.tflite_reader import TfliteFacts, parse_tflite
from kws.detector import DetectorParams
from kws.report.facts import DeviceFacts, Layer, MemoryBox

CORE = "cortex_m4"


def device_facts(tflite: Path, model: FirmwareModel, data: Path | None) -> DeviceFacts:
    """Of the .tflite of a build. `data` has the validation clips on which layers are compared; without it none are.

    Raises KwsError as `export.inspection.inspect_model` does.
    """
    float_onnx = tflite.parent / FLOAT_ONNX if data is not None else None
    inspection = inspect_model(tflite, float_onnx=float_onnx, data=data)
    facts = parse_tflite(model.data, str(tflite))
    head = _memory(facts)
    head_bytes = max((box.offset + box.size_bytes for box in head), default=0)
    return DeviceFacts(
        core=CORE,
        layers=[Layer(index=op.index, op=op.op, shape=op.output_shape, sqnr_db=op.sqnr_db) for op in inspection.ops],
        compared_clips=inspection.compared_clips,
        memory=head,
        bookkeeping_bytes=arena_on(CORE, facts).used - head_bytes,
        flash=_flash(model, inspection),
        ram=_ram(model, facts),
    )


def _memory(facts: TfliteFacts) -> list[MemoryBox]:
    """Ops are counted from 1, as in the table of ops, and the input is there from op 0 on."""
    made_by = {index: op.name for op in facts.operators for index in op.outputs} | {facts.input_index: "input"}
    boxes = []
    for placed in arena_layout(CORE, facts):
        if placed.buffer.size_bytes == 0 or placed.buffer.last < 0:
            continue
        scratch_of = facts.operators[placed.buffer.first - 1].name if placed.tensor is None else ""
        boxes.append(
            MemoryBox(
                name=f"scratch of {scratch_of}" if placed.tensor is None else made_by.get(placed.tensor, "unused"),
                offset=placed.offset,
                size_bytes=placed.buffer.size_bytes,
                first=placed.buffer.first,
                last=placed.buffer.last,
            )
        )
    return boxes


def _flash(model: FirmwareModel, inspection: Inspection) -> dict[str, int]:
    parts = inspection.bytes
    flash = {
        "weights": parts.weights,
        "biases": parts.biases,
        "scales and zero points": parts.quantization,
        "graph": parts.structure,
    }
    cost = firmware_cost(model, DetectorParams())
    if cost is None:
        return flash
    return flash | {"self-test": cost.golden, "feature tables": cost.tables, "code, about": CODE_BYTES[CORE]}


def _ram(model: FirmwareModel, facts: TfliteFacts) -> dict[str, int]:
    arena = {"arena": arena_on(CORE, facts).needed}
    cost = firmware_cost(model, DetectorParams())
    if cost is None:
        return arena
    return arena | {"front end": cost.front_end, "window of frames": cost.window, "detector": cost.detector}
