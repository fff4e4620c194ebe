"""A build -> what a report shows of its inside: rounding by layer, the arena's shape, flash and RAM by part."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from export.arena_32_bit import arena_layout, arena_on
from export.build import PREPARED_ONNX
from export.built import Built
from export.firmware_cost import CODE_BYTES, firmware_cost
from export.firmware_model import FirmwareModel
from export.inspection import COMPARED_CLIPS, Inspection, inspect_model
from export.layer_error import layer_sqnr_db
from export.stream_evaluation import REPORT_NAME as STREAM_NAME
from export.tflite_reader import TfliteFacts, parse_tflite
from kws.artifact import read_json, tool_versions
from kws.benchmark import Benchmark
from kws.detector import DetectorParams
from kws.errors import KwsError
from kws.report.facts import DeviceFacts, Layer, MemoryBox, ReportFacts
from kws.training.log import LOG_NAME, read_log
from quantize.affine import FloatArray

CORE = "cortex_m4"


def read_stream(built: Built, folder: Path) -> dict[str, Any] | None:
    """What `kws benchmark --stream` left in `folder`, None if nothing. Raises KwsError if it cannot be read or is of
    another model."""
    path = folder / STREAM_NAME
    if not path.is_file():
        return None
    heard = read_json(path, "run kws benchmark --stream again")
    if heard.get("model_sha256") != hashlib.sha256(built.model.data).hexdigest():
        raise KwsError(f"{path}: is of another model than {built.folder}; remove it or give another --out.")
    return heard


def report_facts(built: Built, result: Benchmark, device: DeviceFacts, stream: dict[str, Any] | None) -> ReportFacts:
    """With the log of training in the build, where there is one; raises KwsError if that cannot be read."""
    return ReportFacts(
        benchmark=result.as_json(),
        stream=stream,
        training=read_log(built.folder / LOG_NAME) if LOG_NAME in built.manifest["files"] else [],
        device=device,
        versions=tool_versions(),
    )


def device_facts(built: Built, inputs: FloatArray) -> DeviceFacts:
    """Of the integer model of `built`. Layers are compared on some of `inputs` (n, ...), as the float model takes them;
    those of a given ONNX model are not, for its tensors may have other shapes than the device's.

    Raises KwsError as `export.inspection.inspect_model` and `export.layer_error.layer_sqnr_db` do.
    """
    tflite, model = built.folder / built.files.tflite, built.model
    inspection = inspect_model(tflite)
    facts = parse_tflite(model.data, str(tflite))
    count = min(COMPARED_CLIPS, len(inputs)) if model.features is not None else 0
    some = inputs[np.linspace(0, len(inputs) - 1, count).round().astype(np.int64)]
    layers = [str(name) for name in built.manifest.get("layers", [])]
    sqnr_db = layer_sqnr_db(built.folder / PREPARED_ONNX, layers, model.data, facts, some) if count else {}
    head = _memory(facts)
    head_bytes = max((box.offset + box.size_bytes for box in head), default=0)
    return DeviceFacts(
        core=CORE,
        layers=[
            Layer(
                index=op.index,
                op=op.op,
                shape=op.output_shape,
                sqnr_db=sqnr_db.get(facts.operators[op.index].outputs[0]),
            )
            for op in inspection.ops
        ],
        compared_clips=count,
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
