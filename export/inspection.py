"""An integer TFLite model taken apart: what each op costs, how much memory it takes, and where rounding hurts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.arena import measure_arena_bytes
from export.arena_32_bit import arena_on
from export.cost_model import Estimate, ModelEstimate, estimate_ops, op_shape, total
from export.flatbuffer import Span, covered_bytes
from export.tflite_reader import NO_TENSOR, OpFacts, TfliteFacts, parse_tflite, read_tflite_bytes
from kws.artifact import read_manifest, sha256_file, write_json
from kws.errors import KwsError

COMPARED_CLIPS = 50
_BIASED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_BIAS_OPERAND = 2


@dataclass(frozen=True, kw_only=True)
class OpReport:
    """One op and its output; `instructions` by core, None if never measured, `share` is of the total on Cortex-M4.

    `slow` says why the op misses CMSIS-NN's fast kernels. `sqnr_db` of the output against its float tensor and
    `loss_db`, how much worse that is than the worst input's; both None without a comparison or a counterpart.
    """

    index: int
    op: str
    output_shape: tuple[int, ...]
    scale: float | None
    zero_point: int | None
    macs: int
    weight_bytes: int
    instructions: dict[str, int] | None
    share: float | None
    is_extrapolated: bool
    slow: str
    sqnr_db: float | None
    loss_db: float | None


@dataclass(frozen=True, kw_only=True)
class FileBytes:
    """Where the bytes of the file go; `structure` is all else, the sizes of SLICE, PAD and RESHAPE included."""

    file: int
    weights: int
    biases: int
    quantization: int
    structure: int


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """`instructions` by core, without `unmeasured_ops`; `extrapolated_share` (0..1) of those on Cortex-M4.

    `arena_bytes` is TFLM's own figure on this 64-bit host, `arena_32_bit_bytes` and `arena_m55_bytes` what
    it needs on Cortex-M4 and Cortex-M55, computed.
    `compared_clips` is 0 without a comparison.
    """

    model: str
    ops: list[OpReport]
    instructions: dict[str, int]
    unmeasured_ops: int
    extrapolated_share: float
    macs: int
    bytes: FileBytes
    arena_bytes: int
    arena_32_bit_bytes: int
    arena_m55_bytes: int
    compared_clips: int

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def inspect_model(model: Path, *, float_onnx: Path | None = None, data: Path | None = None) -> Inspection:
    """Take the TFLite file `model` apart; with `float_onnx` and `data`, compare each op's output with its float tensor.

    The comparison runs on validation clips of `data` and needs the folder that kws quantize wrote around `model`.
    Raises KwsError if a file is missing, damaged or of another model, or if TFLM cannot run `model`.
    """
    content = read_tflite_bytes(model)
    facts = parse_tflite(content, source=str(model))
    sqnr_db: dict[int, float | None] = {}
    clips = 0
    if float_onnx is not None and data is not None:
        sqnr_db, clips = _compare(model, content, facts, float_onnx, data)
    arena_bytes = measure_arena_bytes(content, str(model))
    estimates = estimate_ops(facts)
    summed = total(estimates)
    ops = [_op_report(index, facts, estimates[index], summed, sqnr_db) for index in range(len(facts.operators))]
    return Inspection(
        model=str(model),
        ops=ops,
        instructions=dict(summed.instructions),
        unmeasured_ops=summed.unmeasured_ops,
        extrapolated_share=sum(op.share for op in ops if op.is_extrapolated and op.share is not None),
        macs=sum(op.macs for op in ops),
        bytes=_file_bytes(facts, len(content)),
        arena_bytes=arena_bytes,
        arena_32_bit_bytes=arena_on("cortex_m4", facts).needed,
        arena_m55_bytes=arena_on("cortex_m55", facts).needed,
        compared_clips=clips,
    )


def write_inspection(found: Inspection, path: Path) -> None:
    write_json(path, found.as_json())


def _compare(
    model: Path, content: bytes, facts: TfliteFacts, float_onnx: Path, data: Path
) -> tuple[dict[int, float | None], int]:
    """SQNR by tensor index, and the number of clips; validation clips, spread evenly over the split."""
    from export.build import FLOAT_ONNX, PREPARED_ONNX
    from export.firmware_model import read_firmware_model
    from export.layer_error import layer_sqnr_db
    from kws.dataset import load_dataset_for
    from kws.features import features_of_clips

    manifest = read_manifest(model.parent, verify=[FLOAT_ONNX, PREPARED_ONNX, model.name])
    if not float_onnx.is_file() or sha256_file(float_onnx) != manifest["files"][FLOAT_ONNX]["sha256"]:
        raise KwsError(f"{float_onnx}: is not the float model of {model}; give {model.parent / FLOAT_ONNX}.")
    described = read_firmware_model(model)
    if described.features is None:
        raise KwsError(f"{model}: came from an ONNX model and has no features; leave out --float and --data.")
    dataset = load_dataset_for(described.labels, data, described.features)
    pcm = dataset.evaluation_clips("validation").pcm
    rows = np.linspace(0, len(pcm) - 1, min(COMPARED_CLIPS, len(pcm))).round().astype(np.int64)
    features = features_of_clips(pcm[rows], described.features)
    folder = model.parent
    layers = [str(name) for name in manifest.get("layers", [])]
    found = layer_sqnr_db(folder / PREPARED_ONNX, layers, content, facts, features)
    return found, len(features)


def _op_report(
    index: int, facts: TfliteFacts, cost: Estimate, summed: ModelEstimate, sqnr_db: dict[int, float | None]
) -> OpReport:
    op = facts.operators[index]
    output = facts.tensors[op.outputs[0]]
    shape = op_shape(op, facts.tensors)
    on_m4 = summed.instructions["cortex_m4"]
    return OpReport(
        index=index,
        op=op.name,
        output_shape=output.shape,
        scale=output.scale,
        zero_point=output.zero_point,
        macs=shape.macs if shape else 0,
        weight_bytes=sum(size for _, size in _constants(op, facts)),
        instructions=None if cost.instructions is None else dict(cost.instructions),
        share=None if cost.instructions is None or not on_m4 else cost.instructions["cortex_m4"] / on_m4,
        is_extrapolated=cost.is_extrapolated,
        slow=cost.slow,
        sqnr_db=sqnr_db.get(op.outputs[0]),
        loss_db=_loss_db(op, sqnr_db),
    )


def _loss_db(op: OpFacts, sqnr_db: dict[int, float | None]) -> float | None:
    before = [known for index in op.inputs if (known := sqnr_db.get(index)) is not None]
    after = sqnr_db.get(op.outputs[0])
    return min(before) - after if before and after is not None else None


def _constants(op: OpFacts, facts: TfliteFacts) -> list[Span]:
    """Weights, and operands of sums and products."""
    operands = [facts.tensors[index] for index in op.inputs if index != NO_TENSOR]
    return [tensor.data for tensor in operands if tensor.data is not None and tensor.dtype in ("INT8", "INT16")]


def _file_bytes(facts: TfliteFacts, file_bytes: int) -> FileBytes:
    weights = covered_bytes(span for op in facts.operators for span in _constants(op, facts))
    bias_indexes = {op.inputs[_BIAS_OPERAND] for op in facts.operators if op.name in _BIASED and len(op.inputs) > 2}
    biases = covered_bytes(
        span for index in bias_indexes - {NO_TENSOR} if (span := facts.tensors[index].data) is not None
    )
    quantization = covered_bytes(span for tensor in facts.tensors for span in tensor.quantization)
    return FileBytes(
        file=file_bytes,
        weights=weights,
        biases=biases,
        quantization=quantization,
        structure=file_bytes - weights - biases - quantization,
    )


def slow_groups(ops: Sequence[OpReport]) -> list[tuple[str, int, int, float]]:
    """Ops outside the fast kernels, largest first: (op and why, count, instructions on Cortex-M4, their share)."""
    groups: dict[str, list[OpReport]] = {}
    for op in ops:
        if op.slow:
            groups.setdefault(f"{op.op}, {op.slow}", []).append(op)
    rows = []
    for name, members in groups.items():
        known = [op.instructions["cortex_m4"] for op in members if op.instructions is not None]
        rows.append((name, len(members), sum(known), sum(op.share or 0.0 for op in members)))
    return sorted(rows, key=lambda row: -row[2])
