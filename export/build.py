"""Float ONNX -> QDQ ONNX -> int8 TFLite: every arrow runs on real clips and proves itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from export.layer_error import layer_names
from export.lowering import lower
from export.to_tflite import to_tflite
from kws.artifact import atomic_folder, write_manifest
from kws.metrics import agreement
from kws.progress import bar, note
from quantize.affine import Affine, FloatArray
from quantize.calibration import activations, calibrate, min_max
from quantize.compare import Check, check_device, check_export, check_kernels, check_rewrite, require
from quantize.device_rounding import round_as_device
from quantize.equalization import equalize
from quantize.fit import fit_stacked_rows
from quantize.input_layout import InputLayout
from quantize.options import QuantizeOptions
from quantize.qdq import quantize_model
from quantize.rewrites import rewrite
from quantize.runtimes import OnnxRuntime, TfliteReferenceRuntime, TflmRuntime

FLOAT_ONNX = "model.onnx"
PREPARED_ONNX = "model.prepared.onnx"
QDQ_ONNX = "model.int8.onnx"
INT8_TFLITE = "model.int8.tflite"
MODEL_FILES = [FLOAT_ONNX, PREPARED_ONNX, QDQ_ONNX, INT8_TFLITE]
PROOF_CLIPS = 200
USUAL_AGREEMENT = 0.9
STAGES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What a build starts from, in `export.from_checkpoint` or `export.from_onnx`.

    `origin` names it in the first arrow; `answer` takes features (n, ...) to logits (n, classes); `export` writes the
    float ONNX model to a path and returns it. `calibration` and `proof` are float32 features; `fields` go into the
    manifest.
    """

    origin: str
    answer: Callable[[FloatArray], FloatArray]
    export: Callable[[Path], onnx.ModelProto]
    calibration: FloatArray
    proof: FloatArray
    fields: Mapping[str, Any]


def build(source: Source, out: Path, options: QuantizeOptions) -> Path:
    """Write the float ONNX, the QDQ ONNX, the int8 TFLite model and their manifest to `out`, and return `out`.

    Each arrow is held against the one before it on `source.proof`. Raises KwsError, leaving `out` as it was, if the
    model cannot be converted or an arrow is past its tolerance.
    """
    with atomic_folder(out) as folder, bar("Quantizing") as progress:
        float_model = source.export(folder / FLOAT_ONNX)
        progress(1, STAGES)
        note(f"Calibrating on {len(source.calibration)} clips.")
        prepared = prepare(float_model, source.calibration)
        (folder / PREPARED_ONNX).write_bytes(prepared.SerializeToString(deterministic=True))
        qdq = quantize_model(prepared, calibrate(prepared, source.calibration))
        progress(2, STAGES)
        graph = lower(qdq)
        (folder / INT8_TFLITE).write_bytes(to_tflite(graph))
        (folder / QDQ_ONNX).write_bytes(round_as_device(qdq).SerializeToString(deterministic=True))
        progress(3, STAGES)
        checks, device = prove(source, prepared, folder)
        fields = {
            **source.fields,
            "input": _io(device.input_shape, device.input),
            "output": _io(device.output_shape, device.output),
            "layers": layer_names(graph),
            "checks": [dataclasses.asdict(check) for check in checks],
            "options": dataclasses.asdict(options),
            "calibration": {"clips": len(source.calibration)},
            "proof_clips": len(source.proof),
        }
        write_manifest(folder, fields, MODEL_FILES)
        progress(STAGES, STAGES)
    return out


def prepare(float_model: onnx.ModelProto, calibration: FloatArray) -> onnx.ModelProto:
    """The same function with the tensors that the device will have, their channels in like ranges on `calibration`."""
    rewritten = rewrite(float_model)
    equalized = equalize(rewritten, min_max(activations(rewritten, calibration)))
    return fit_stacked_rows(equalized, calibration)


def prove(source: Source, prepared: onnx.ModelProto, folder: Path) -> tuple[list[Check], TflmRuntime]:
    """Run every arrow on `source.proof`, say what was found, and raise KwsError at the first past its tolerance."""
    features = source.proof
    onnx_logits = OnnxRuntime(folder / FLOAT_ONNX)(features)
    checks = check_export(source.answer(features), onnx_logits, source.origin)
    checks += check_rewrite(onnx_logits, OnnxRuntime(folder / PREPARED_ONNX)(features))
    images = InputLayout.of(prepared)(features)
    device = TflmRuntime(folder / INT8_TFLITE)
    device_logits = device(images)
    checks += check_device(device.output.quantize(OnnxRuntime(folder / QDQ_ONNX)(features)), device_logits)
    checks += check_kernels(TfliteReferenceRuntime(folder / INT8_TFLITE)(images), device_logits)
    for check in checks:
        note(check.sentence)
    require(checks)
    same = agreement(onnx_logits, device_logits)
    if same < USUAL_AGREEMENT:
        note(
            f"int8 gives only {same:.1%} of the clips the answer of float; calibrate on clips like those it will hear."
        )
    return checks, device


def _io(shape: tuple[int, ...], affine: Affine) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": "int8", "scale": float(affine.scale), "zero_point": affine.zero_point}
