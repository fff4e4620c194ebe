"""Checkpoint -> float ONNX -> QDQ ONNX -> int8 TFLite: every arrow runs on real clips and proves itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from export.lowering import lower
from export.to_onnx import to_onnx
from export.to_tflite import to_tflite
from kws.artifact import atomic_folder, make_folder, sha256_file, write_manifest
from kws.checkpoint import Checkpoint, load_checkpoint
from kws.config import to_dict
from kws.dataset import Dataset, load_dataset_for
from kws.features import features_of_clips
from kws.model import count_macs, parameter_count
from kws.progress import bar, note
from quantize.affine import FloatArray
from quantize.calibration import activations, calibrate, min_max
from quantize.compare import Check, check_device, check_export, check_kernels, check_rewrite, require
from quantize.device_rounding import round_as_device
from quantize.equalization import equalize
from quantize.qdq import quantize_model
from quantize.rewrites import rewrite
from quantize.runtimes import Int8Runtime, OnnxRuntime, TfliteReferenceRuntime, TflmRuntime

FLOAT_ONNX = "model.onnx"
PREPARED_ONNX = "model.prepared.onnx"
QDQ_ONNX = "model.int8.onnx"
INT8_TFLITE = "model.int8.tflite"
MODEL_FILES = [FLOAT_ONNX, PREPARED_ONNX, QDQ_ONNX, INT8_TFLITE]
PROOF_CLIPS = 200
STAGES = 4


def build(checkpoint_path: Path, data: Path, out: Path, *, calibration_clips: int) -> Path:
    """Write the float ONNX, the QDQ ONNX, the int8 TFLite model and their manifest to `out`, and return `out`.

    Ranges come from clips of the training split; each arrow is then held against the one before it on
    `proof_features`. Raises KwsError, leaving `out` as it was, if an input cannot be used
    or an arrow is past its tolerance.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    make_folder(out)
    dataset = load_dataset_for(checkpoint.labels, data, checkpoint.features)
    calibration = features_of_clips(dataset.calibration_clips(calibration_clips), checkpoint.features)
    with atomic_folder(out) as folder, bar("Quantizing") as progress:
        float_model = to_onnx(checkpoint.build(), calibration[:1].shape, folder / FLOAT_ONNX)
        progress(1, STAGES)
        note(f"Calibrating on {len(calibration)} clips.")
        prepared = prepare(float_model, calibration)
        (folder / PREPARED_ONNX).write_bytes(prepared.SerializeToString(deterministic=True))
        qdq = quantize_model(prepared, calibrate(prepared, calibration))
        progress(2, STAGES)
        (folder / INT8_TFLITE).write_bytes(to_tflite(lower(qdq)))
        (folder / QDQ_ONNX).write_bytes(round_as_device(qdq).SerializeToString(deterministic=True))
        progress(3, STAGES)
        proof = proof_features(dataset, checkpoint)
        checks, device = prove(checkpoint, folder, proof)
        fields = _manifest_fields(checkpoint, checkpoint_path, device, checks) | {
            "calibration": {"clips": len(calibration)},
            "proof_clips": len(proof),
        }
        write_manifest(folder, fields, MODEL_FILES)
        progress(STAGES, STAGES)
    return out


def proof_features(dataset: Dataset, checkpoint: Checkpoint) -> FloatArray:
    """Log-mel (n, 1, mel_bands, frames) of PROOF_CLIPS validation clips, evenly spread over the split; where there are
    fewer, training clips make up the number as far as they go."""
    pcm = dataset.evaluation_clips("validation").pcm
    rows = np.linspace(0, len(pcm) - 1, min(PROOF_CLIPS, len(pcm))).round().astype(np.int64)
    clips = pcm[rows]
    if len(clips) < PROOF_CLIPS:
        clips = np.concatenate([clips, dataset.calibration_clips(PROOF_CLIPS - len(clips))])
    return features_of_clips(clips, checkpoint.features)


def prepare(float_model: onnx.ModelProto, calibration: FloatArray) -> onnx.ModelProto:
    """The same function with the tensors that the device will have, their channels in like ranges on `calibration`."""
    rewritten = rewrite(float_model)
    return equalize(rewritten, min_max(activations(rewritten, calibration)))


def prove(checkpoint: Checkpoint, folder: Path, features: FloatArray) -> tuple[list[Check], TflmRuntime]:
    """Run every arrow on `features`, say what was found, and raise KwsError at the first past its tolerance."""
    with torch.inference_mode():
        torch_logits = checkpoint.build()(torch.from_numpy(features)).numpy()
    onnx_logits = OnnxRuntime(folder / FLOAT_ONNX)(features)
    checks = check_export(torch_logits, onnx_logits)
    checks += check_rewrite(onnx_logits, OnnxRuntime(folder / PREPARED_ONNX)(features))
    device = TflmRuntime(folder / INT8_TFLITE)
    device_logits = device(features)
    checks += check_device(device.output.quantize(OnnxRuntime(folder / QDQ_ONNX)(features)), device_logits)
    checks += check_kernels(TfliteReferenceRuntime(folder / INT8_TFLITE)(features), device_logits)
    for check in checks:
        note(check.sentence)
    require(checks)
    return checks, device


def _manifest_fields(
    checkpoint: Checkpoint, checkpoint_path: Path, device: Int8Runtime, checks: list[Check]
) -> dict[str, Any]:
    network, features = checkpoint.build(), checkpoint.features
    classes = len(checkpoint.labels)
    return {
        "labels": checkpoint.labels,
        "features": to_dict(features),
        "model": to_dict(checkpoint.model)
        | {"params": parameter_count(network), "macs": count_macs(network, features.frames, features.mel_bands)},
        "input": _io([1, features.mel_bands, features.frames, 1], device, "input"),
        "output": _io([1, classes], device, "output"),
        "source": {"checkpoint": checkpoint_path.name, "sha256": sha256_file(checkpoint_path)},
        "checks": [dataclasses.asdict(check) for check in checks],
    }


def _io(shape: list[int], device: Int8Runtime, which: str) -> dict[str, Any]:
    affine = device.input if which == "input" else device.output
    return {"shape": shape, "dtype": "int8", "scale": float(affine.scale), "zero_point": affine.zero_point}
