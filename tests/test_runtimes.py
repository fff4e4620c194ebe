"""Runtimes: each clip is answered on its own, whatever came before it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from qdq_graphs import block, built, convolution, features_for

from export.lowering import lower
from export.to_tflite import to_tflite
from kws.errors import KwsError
from quantize.affine import Affine
from quantize.runtimes import OnnxRuntime, TfliteReferenceRuntime, TflmRuntime

MODEL = built(block)
TFLITE = to_tflite(lower(MODEL))
ONNX = MODEL.SerializeToString()


@pytest.mark.parametrize(
    "runtime",
    [
        pytest.param(lambda: OnnxRuntime(ONNX), id="onnx"),
        pytest.param(lambda: TflmRuntime(TFLITE), id="tflm"),
        pytest.param(lambda: TfliteReferenceRuntime(TFLITE), id="reference", marks=pytest.mark.slow),
    ],
)
def test_answers_do_not_depend_on_what_was_asked_before(runtime) -> None:
    features = features_for(MODEL)
    together = runtime()
    answers = together(features)
    assert answers.shape == (len(features), 5)
    assert len(np.unique(answers, axis=0)) == len(features)
    np.testing.assert_array_equal(together(features[::-1]), answers[::-1])
    np.testing.assert_array_equal([runtime()(clip[np.newaxis])[0] for clip in features[:2]], answers[:2])
    assert together(features[:0]).shape == (0, 5)


def test_a_path_is_as_good_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(TFLITE)
    (tmp_path / "model.onnx").write_bytes(ONNX)
    features = features_for(MODEL)
    np.testing.assert_array_equal(TflmRuntime(tmp_path / "model.tflite")(features), TflmRuntime(TFLITE)(features))
    np.testing.assert_array_equal(OnnxRuntime(str(tmp_path / "model.onnx"))(features), OnnxRuntime(ONNX)(features))


def test_input_and_output_affines_are_the_models_own() -> None:
    runtime = TflmRuntime(TFLITE)
    assert (runtime.input, runtime.output) == (Affine(0.04, 9), Affine(0.1, 7))


def test_kept_tensors_are_those_that_the_graph_computes() -> None:
    """The output, and the row of means, whose QDQ value onnxruntime gives."""
    features = features_for(MODEL)[:1]
    runtime, graph = TflmRuntime(TFLITE, keep_tensors=True), lower(MODEL)
    answers = runtime(features)
    activations = [tensor.name for tensor in graph.tensors.values() if tensor.data is None]
    np.testing.assert_array_equal(runtime.tensor(activations.index(graph.outputs[0])), answers)
    stem = runtime.tensor(activations.index(graph.ops[1].output))
    assert stem.shape == (1, 10, 13, 8)
    assert np.unique(stem).size > 15
    runtime(features_for(MODEL)[1:2])
    assert not np.array_equal(runtime.tensor(activations.index(graph.ops[1].output)), stem)


def test_channels_go_last_on_the_way_in() -> None:
    """A convolution that picks channel 2 answers with channel 2."""
    model = built(convolution(1, 4, 1, 1))
    features = features_for(model)
    weights = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [1, 4, 1, 1])
    weights.raw_data = np.array([0, 0, 127, 0], np.int8).tobytes()
    answers = TflmRuntime(to_tflite(lower(model)))(features)
    correlation = np.corrcoef(answers[..., 0].ravel(), features[:, 2].ravel())[0, 1]
    assert correlation > 0.98


def test_features_of_another_shape_type_or_with_nan_are_refused() -> None:
    features = features_for(MODEL)
    for runtime in (OnnxRuntime(ONNX), TflmRuntime(TFLITE)):
        with pytest.raises(KwsError, match=r"do not fit the model, which takes float32 \(n, 1, 20, 13\)"):
            runtime(features[..., :-1])
        with pytest.raises(KwsError, match="float64"):
            runtime(features.astype(np.float64))
    with pytest.raises(KwsError, match="NaN"):
        TflmRuntime(TFLITE)(np.full_like(features, np.nan))


def test_a_model_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    for runtime in (OnnxRuntime, TflmRuntime):
        with pytest.raises(KwsError, match="missing: cannot be read"):
            runtime(tmp_path / "missing")
    with pytest.raises(KwsError, match="onnxruntime cannot load it"):
        OnnxRuntime(b"garbage")


@pytest.mark.slow
def test_tensorflow_starts_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(TFLITE)
    script = "import sys; from quantize.runtimes import TfliteReferenceRuntime as R; print(R(sys.argv[1]).output)"
    command = [sys.executable, "-c", script, str(tmp_path / "model.tflite")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
