"""Models, inputs, targets and labels that do not fit `kws quantize MODEL.onnx`: one sentence each, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import graph_model
from onnx import helper, numpy_helper

from export.arrays import read_inputs, read_labels, read_targets
from export.from_onnx import build_onnx
from kws.errors import KwsError
from quantize.options import QuantizeOptions


def model_file(path: Path, change: Callable[[onnx.ModelProto], None] = lambda model: None) -> Path:
    """A Relu and a Gemm from (batch, 4) to (batch, 3), changed."""
    model = graph_model(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Gemm", ["r", "w"], ["y"])],
        {"w": np.random.default_rng(0).normal(size=(4, 3))},
        ("batch", 4),
        ("batch", 3),
    )
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def _external(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


def _weights(value: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        array = np.full((4, 3), value, dtype=np.float32)
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w"))

    return change


def _input(shape: tuple[Any, ...], kind: int = onnx.TensorProto.FLOAT) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", kind, shape))


def _op(op_type: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type, model.graph.node[0].name = op_type, "culprit"

    return change


def _old(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 12


def _two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.add().CopyFrom(helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, ("batch", 4)))


def _two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, ("batch", 4)))


def _empty_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((4, 0), np.float32), "w"))


def _constant(model: onnx.ModelProto) -> None:
    array = numpy_helper.from_array(np.full((4, 3), np.nan, np.float32))
    del model.graph.initializer[:]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=array))


def _image_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("u", onnx.TensorProto.FLOAT, ("batch", 3, 1)))
    model.graph.node.append(helper.make_node("Unsqueeze", ["y", "two"], ["u"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "two"))


MODELS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "external weights": (_external, "keeps its weights in other files"),
    "NaN in the weights": (_weights(float("nan")), "its weights 'w' hold NaN"),
    "infinite weights": (_weights(float("inf")), "its weights 'w' hold NaN"),
    "symbolic features": (_input(("batch", "bands")), r"has shape \(batch, bands\); export it with a fixed shape"),
    "batch of 8": (_input((8, 4)), "has a batch size of 8; export it with 1"),
    "integers in": (_input(("batch", 4), onnx.TensorProto.INT64), "is int64; export it with a float32 input"),
    "unknown op": (_op("Erf"), "Erf node 'culprit': there is no int8 form of this op"),
    "old opset": (_old, "has opset 12; export it with opset 13"),
    "no features": (_input(("batch", 0)), r"has shape \(batch, 0\); export it with a fixed shape"),
    "no batch": (_input((0, 4)), r"has shape \(0, 4\); export it with a fixed shape"),
    "float16 in": (_input(("batch", 4), onnx.TensorProto.FLOAT16), "is float16; export it with a float32 input"),
    "double in": (_input(("batch", 4), onnx.TensorProto.DOUBLE), "is double; export it with a float32 input"),
    "empty weights": (_empty_weights, "its weights 'w' are empty"),
    "NaN in a Constant node": (_constant, "its weights 'w' hold NaN"),
    "two inputs": (_two_inputs, "2 inputs and 1 outputs"),
    "two outputs": (_two_outputs, "1 inputs and 2 outputs"),
    "rank 3 out": (_image_output, r"with shape \(1, 3, 1\)"),
    "no ONNX": (lambda model: model.Clear(), "no valid ONNX model"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_does_not_fit_is_one_sentence(name: str, tmp_path: Path) -> None:
    change, sentence = MODELS[name]
    model = model_file(tmp_path / "model.onnx", change)
    np.save(tmp_path / "x.npy", np.zeros((10, 4), np.float32))
    with pytest.raises(KwsError, match=sentence) as caught:
        build_onnx(model, tmp_path / "x.npy", tmp_path / "build", QuantizeOptions(calibration_clips=5))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert "culprit" in message or message.startswith(str(model))
    assert not list((tmp_path / "build").iterdir() if (tmp_path / "build").exists() else [])


ARRAYS: dict[str, tuple[Any, str]] = {
    "another shape": (np.zeros((5, 3), np.float32), r"has shape \(5, 3\), but the model takes float32 \(n, 4\)"),
    "another rank": (np.zeros((5, 4, 1), np.float32), r"has shape \(5, 4, 1\)"),
    "nothing": (np.zeros((0, 4), np.float32), r"has shape \(0, 4\)"),
    "integers": (np.zeros((5, 4), np.int16), "holds int16"),
    "NaN": (np.array([[0, 0, 0, 0], [0, np.nan, 0, 0]], np.float32), "input 1 holds NaN"),
    "beyond float32": (np.full((1, 4), 1e300), "input 0 holds NaN or infinity"),
    "objects": (np.array([[{}, 1, 2, 3]], dtype=object), "is no .npy file of numbers"),
    "text": (b"1, 2, 3, 4\n", "is no .npy file of numbers"),
    "cut short": (b"\x93NUMPY\x01\x00", "is no .npy file of numbers"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_inputs_that_do_not_fit_are_one_sentence(name: str, tmp_path: Path) -> None:
    content, sentence = ARRAYS[name]
    path = tmp_path / "x.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(KwsError, match=sentence) as caught:
        read_inputs(path, (4,))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_inputs_are_spread_evenly_and_converted(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(44.0).reshape(11, 4))
    found = read_inputs(tmp_path / "x.npy", (4,), most=3)
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == [0.0, 20.0, 40.0]
    np.savez(tmp_path / "x.npz", a=np.zeros((3, 4), np.float32))
    with pytest.raises(KwsError, match="holds several arrays"):
        read_inputs(tmp_path / "x.npz", (4,))
    with pytest.raises(KwsError, match="cannot be read"):
        read_inputs(tmp_path / "absent.npy", (4,))


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        (np.zeros(4, np.int64), r"of shape \(4,\); save a whole number for each of the 5 inputs"),
        (np.zeros(5, np.float32), "holds float32"),
        (np.zeros((5, 1), np.int64), r"of shape \(5, 1\)"),
        (np.array([0, 1, 2, 3, 1]), "target 3 is 3, but the model has classes 0 to 2"),
        (np.array([0, 1, -1, 2, 1]), "target 2 is -1"),
    ],
)
def test_targets_that_do_not_fit_are_one_sentence(targets: np.ndarray, sentence: str, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", targets)
    with pytest.raises(KwsError, match=sentence):
        read_targets(tmp_path / "y.npy", 5, 3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"a\nb\n", "has 2 lines, but the model has 3 outputs"),
        (b"a\nb\nc\nd\n", "has 4 lines"),
        (b"a\nb\na\n", "the label 'a' stands there twice"),
        (b"a\n\nb\n", "line 2 is no label"),
        (b"a\nb\0\nc\n", "line 2 is no label"),
        (b"a\n\xff\nb\n", "cannot be read as UTF-8"),
    ],
)
def test_labels_that_do_not_fit_are_one_sentence(text: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(text)
    with pytest.raises(KwsError, match=sentence):
        read_labels(tmp_path / "labels.txt", 3)


def test_labels_may_come_from_windows(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffyes\r\nنعم \r\nno".encode())
    assert read_labels(tmp_path / "labels.txt", 3) == ["yes", "نعم", "no"]
