"""A build folder and test data -> the benchmark of its float and its int8 model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.arena import measure_arena_bytes
from export.build import FLOAT_ONNX, INT8_TFLITE, MODEL_FILES
from export.firmware_model import read_firmware_model
from kws.artifact import make_folder, read_manifest, write_json
from kws.benchmark import compare, print_tables
from kws.dataset import load_dataset_for
from kws.features import features_of_clips
from kws.progress import track
from quantize.affine import FloatArray, Int8Array
from quantize.runtimes import OnnxRuntime, TflmRuntime

REPORT_NAME = "benchmark.json"


def benchmark_build(build: Path, data: Path, out: Path) -> Path:
    """Run the float ONNX model and the int8 model (under TFLM) on the test clips of `data`.

    Prints the tables and writes `out`/benchmark.json, which it returns. Raises KwsError for a build that is
    incomplete or was changed, or data whose labels are not the model's.
    """
    read_manifest(build, verify=MODEL_FILES)
    make_folder(out)
    model = read_firmware_model(build / INT8_TFLITE)
    dataset = load_dataset_for(model.labels, data, model.features, needed=["testing"])
    clips = dataset.evaluation_clips("testing")
    features = features_of_clips(clips.pcm, model.features)
    device = TflmRuntime(model.data)
    float_logits = OnnxRuntime(build / FLOAT_ONNX)(features)
    result = compare(
        {"float": float_logits, "int8": device.output.dequantize(_answers(device, features))},
        clips.targets,
        labels=model.labels,
        clip_names=clips.names,
        model_bytes=len(model.data),
        arena_bytes=measure_arena_bytes(model.data, str(build / INT8_TFLITE)),
    )
    write_json(out / REPORT_NAME, result.as_json())
    print_tables(result)
    return out / REPORT_NAME


def _answers(device: TflmRuntime, features: FloatArray) -> Int8Array:
    """int8 logits (n, classes), with a progress bar: TFLM's reference kernels take their time on a host."""
    clips = track(features, "int8 model", len(features))
    return np.concatenate([device(clip[np.newaxis]) for clip in clips])
