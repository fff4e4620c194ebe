"""Float ONNX -> QDQ ONNX -> int8 or int16 TFLite: every arrow runs on real clips and proves itself."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from export.arrows import Arrows, ModelPaths
from export.choose import choose_plan
from export.device_graph import device_graph
from export.layer_error import layer_names
from export.to_tflite import to_tflite
from kws.artifact import atomic_folder, write_manifest
from kws.metrics import agreement
from kws.progress import bar, note
from quantize.affine import Affine, FloatArray, StepType
from quantize.compare import Check, require
from quantize.device_rounding import round_as_device
from quantize.options import QuantizeOptions
from quantize.pipeline import prepare, quantize
from quantize.reference import ReferenceProcess, reference_process
from quantize.rewrites.plan import Plan
from quantize.runtimes import TflmRuntime

FLOAT_ONNX = "model.onnx"
PREPARED_ONNX = "model.prepared.onnx"
PROOF_CLIPS = 200
USUAL_AGREEMENT = 0.9
STAGES = 4


@dataclass(frozen=True)
class ModelFiles:
    """The names of the models of a build, two of which say what the device computes with."""

    activations: StepType

    @property
    def qdq_onnx(self) -> str:
        return f"model.{self.activations}.onnx"

    @property
    def tflite(self) -> str:
        return f"model.{self.activations}.tflite"

    @property
    def all(self) -> list[str]:
        return [FLOAT_ONNX, PREPARED_ONNX, self.qdq_onnx, self.tflite]

    def paths(self, folder: Path) -> ModelPaths:
        return ModelPaths(
            float_onnx=folder / FLOAT_ONNX,
            prepared_onnx=folder / PREPARED_ONNX,
            qdq_onnx=folder / self.qdq_onnx,
            tflite=folder / self.tflite,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What a build starts from, in `export.from_checkpoint` or `export.from_onnx`.

    `origin` names it in the first arrow; `answer` takes features (n, ...) to logits (n, classes); `export` writes the
    float ONNX model to a path and returns it. `calibration` and `proof` are float32 features; `fields` go into the
    manifest, and `files` into the build, under the names that are their keys.
    """

    origin: str
    answer: Callable[[FloatArray], FloatArray]
    export: Callable[[Path], onnx.ModelProto]
    calibration: FloatArray
    proof: FloatArray
    fields: Mapping[str, Any]
    files: Mapping[str, Path] = field(default_factory=dict)


def build(source: Source, out: Path, options: QuantizeOptions) -> Path:
    """Write the float ONNX, the QDQ ONNX, the TFLite model and their manifest to `out`, and return `out`.

    Each arrow is held against the one before it on `source.proof`. Raises KwsError, leaving `out` as it was, if the
    model cannot be converted or an arrow is past its tolerance.
    """
    files = ModelFiles(options.activations)
    started = time.monotonic()
    with atomic_folder(out) as folder, reference_process() as reference, bar("Quantizing") as progress:
        float_model = source.export(folder / FLOAT_ONNX)
        progress(1, STAGES)
        note(f"Calibrating on {len(source.calibration)} clips.")
        plan = choose_plan(float_model, options.optimize) if options.activations == "int8" else Plan()
        prepared = prepare(float_model, source.calibration, options, plan)
        (folder / PREPARED_ONNX).write_bytes(prepared.SerializeToString(deterministic=True))
        qdq = quantize(prepared, source.calibration, options, plan)
        progress(2, STAGES)
        graph = device_graph(qdq, plan)
        (folder / files.tflite).write_bytes(to_tflite(graph, packed=plan.packed_memory, labels=source.fields["labels"]))
        (folder / files.qdq_onnx).write_bytes(round_as_device(qdq).SerializeToString(deterministic=True))
        progress(3, STAGES)
        converted = time.monotonic()
        checks, device = prove(source, folder, files, reference)
        fields = {
            **source.fields,
            "input": _io(device.input_shape, device.input),
            "output": _io(device.output_shape, device.output),
            "layers": layer_names(graph),
            "checks": [dataclasses.asdict(check) for check in checks],
            "options": dataclasses.asdict(options),
            "plan": dataclasses.asdict(plan),
            "calibration": {"clips": len(source.calibration)},
            "proof_clips": len(source.proof),
        }
        for name, path in source.files.items():
            shutil.copyfile(path, folder / name)
        write_manifest(folder, fields, [*files.all, *source.files])
        progress(STAGES, STAGES)
        note(f"Converted in {converted - started:.1f} s, proven in {time.monotonic() - converted:.1f} s.")
    return out


def prove(
    source: Source, folder: Path, files: ModelFiles, reference: ReferenceProcess
) -> tuple[list[Check], TflmRuntime]:
    """Run every arrow on `source.proof`, say what was found, and raise KwsError at the first past its tolerance."""
    arrows = Arrows(files.paths(folder), source.proof, reference)
    arrows.ask_reference()
    checks = arrows.export(source.answer, source.origin) + arrows.rewrite() + arrows.to_device() + arrows.kernels()
    for check in checks:
        note(check.sentence)
    require(checks)
    same = agreement(arrows.float_logits, arrows.device_logits)
    if same < USUAL_AGREEMENT:
        note(
            f"int8 gives only {same:.1%} of the clips the answer of float; calibrate on clips like those it will hear."
        )
    return checks, arrows.device


def _io(shape: tuple[int, ...], affine: Affine) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": affine.dtype, "scale": float(affine.scale), "zero_point": affine.zero_point}
