"""What ONNX says in several ways becomes one, with the same function; 1-D models become images of height 1."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from networks import Array, clips_for, run
from onnx import helper
from test_rewrites import assert_same_function

from kws.errors import KwsError
from quantize.input_layout import InputLayout, layout_nodes
from quantize.rewrites import rewrite

RNG = np.random.default_rng(0)
IMAGE, ROW, FLAT = (1, 4, 6, 5), (1, 4, 12), (1, 4)
Node = tuple[str, list[str], str, dict[str, Any]]


def chain(*nodes: Node, weights: dict[str, Array], shape: tuple[int, ...] = IMAGE, opset: int = 18) -> onnx.ModelProto:
    """Nodes (op type, inputs, output, attributes); the last output is "y", whose shape is inferred."""
    protos = [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes]
    graph = helper.make_graph(
        protos,
        "test",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(_float32(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def _float32(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float64 else array


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


THREE, SIX, SIXTH = {"three": np.float32(3)}, {"zero": np.float32(0), "six": np.float32(6)}, {"f": np.float32(1 / 6)}
CLIPPED: list[Node] = [("Add", ["x", "three"], "a", {}), ("Clip", ["a", "zero", "six"], "c", {})]
HARD_SWISH: dict[str, list[Node]] = {
    "hard-sigmoid": [("HardSigmoid", ["x"], "h", {"alpha": 1 / 6}), ("Mul", ["x", "h"], "y", {})],
    "gate first": [("HardSigmoid", ["x"], "h", {"alpha": 1 / 6}), ("Mul", ["h", "x"], "y", {})],
    "clip, then divided": [*CLIPPED, ("Mul", ["x", "c"], "m", {}), ("Div", ["m", "six"], "y", {})],
    "clip divided, then multiplied": [*CLIPPED, ("Mul", ["c", "f"], "m", {}), ("Mul", ["m", "x"], "y", {})],
}


@pytest.mark.parametrize("spelling", HARD_SWISH)
@pytest.mark.parametrize("shape", [IMAGE, FLAT], ids=["image", "flat"])
def test_every_spelling_of_hard_swish_is_one_op(spelling: str, shape: tuple[int, ...]) -> None:
    before = chain(*HARD_SWISH[spelling], weights=THREE | SIX | SIXTH, shape=shape)
    after = rewrite(before)
    assert_same_function(before, after)
    assert "HardSwish" in ops(after)
    assert not {"Mul", "Clip", "HardSigmoid"} & set(ops(after))


@pytest.mark.parametrize(
    "nodes",
    [
        [("HardSigmoid", ["x"], "h", {"alpha": 0.2}), ("Mul", ["x", "h"], "y", {})],
        [
            ("Add", ["x", "six"], "a", {}),
            ("Clip", ["a", "zero", "six"], "c", {}),
            ("Mul", ["x", "c"], "m", {}),
            ("Div", ["m", "six"], "y", {}),
        ],
        [*CLIPPED, ("Mul", ["x", "c"], "m", {}), ("Div", ["m", "three"], "y", {})],
    ],
    ids=["another slope", "another offset", "another divisor"],
)
def test_what_only_looks_like_hard_swish_is_none(nodes: list[Node]) -> None:
    before = chain(*nodes, weights=THREE | SIX)
    after = rewrite(before)
    assert_same_function(before, after)
    assert "HardSwish" not in ops(after)


W3 = {"w": RNG.normal(size=(4, 4, 3, 3))}
FORMS: dict[str, tuple[list[Node], dict[str, Array], list[str]]] = {
    "minus": ([("Sub", ["x", "c"], "y", {})], {"c": RNG.normal(size=(4, 1, 1))}, ["Add"]),
    "divided": ([("Div", ["x", "c"], "y", {})], {"c": RNG.uniform(1, 2, size=(4, 1, 1))}, ["Mul"]),
    "same upper": ([("Conv", ["x", "w"], "y", {"auto_pad": "SAME_UPPER", "strides": [2, 2]})], W3, ["Conv"]),
    "same lower": ([("Conv", ["x", "w"], "y", {"auto_pad": "SAME_LOWER", "strides": [2, 2]})], W3, ["Conv"]),
    "valid": ([("Conv", ["x", "w"], "y", {"auto_pad": "VALID", "dilations": [2, 1]})], W3, ["Conv"]),
    "same pool": ([("MaxPool", ["x"], "y", {"auto_pad": "SAME_LOWER", "kernel_shape": [2, 4]})], {}, ["MaxPool"]),
    "average that counts padding": (
        [("AveragePool", ["x"], "y", {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "count_include_pad": 1})],
        {},
        ["Pad", "AveragePool"],
    ),
    "average that does not": (
        [("AveragePool", ["x"], "y", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})],
        {},
        ["AveragePool"],
    ),
    "global maximum": ([("GlobalMaxPool", ["x"], "y", {})], {}, ["MaxPool"]),
    "maximum over the image": (
        [("ReduceMax", ["x", "axes"], "y", {"keepdims": 0})],
        {"axes": np.array([-1, 2])},
        ["MaxPool", "Reshape"],
    ),
    "mean without axes kept": (
        [("ReduceMean", ["x", "axes"], "y", {"keepdims": 0})],
        {"axes": np.array([2, 3])},
        ["Conv", "Reshape"],
    ),
    "clip without end": ([("Clip", ["x", "zero"], "y", {})], SIX, ["Relu"]),
    "hard-sigmoid": ([("HardSigmoid", ["x"], "y", {})], {}, ["Mul", "Add", "Clip"]),
    "hard-sigmoid behind a convolution": (
        [("Conv", ["x", "w"], "c", {}), ("HardSigmoid", ["c"], "y", {})],
        W3,
        ["Conv", "Clip"],
    ),
    "two transposes": (
        [
            ("Transpose", ["x"], "t", {"perm": [0, 2, 3, 1]}),
            ("Transpose", ["t"], "u", {"perm": [0, 3, 1, 2]}),
            ("Relu", ["u"], "y", {}),
        ],
        {},
        ["Relu"],
    ),
    "transpose of ones": (
        [
            ("ReduceMean", ["x", "axes"], "m", {}),
            ("Transpose", ["m"], "t", {"perm": [0, 2, 3, 1]}),
            ("Squeeze", ["t", "ones"], "y", {}),
        ],
        {"axes": np.array([2, 3]), "ones": np.array([1, 2])},
        ["Conv", "Reshape"],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_becomes_the_known_one(form: str) -> None:
    nodes, weights, expected = FORMS[form]
    before = chain(*nodes, weights=weights)
    after = rewrite(before)
    assert_same_function(before, after)
    assert ops(after) == expected


def test_a_mean_of_opset_17_keeps_its_axes_as_an_attribute() -> None:
    before = chain(("ReduceMean", ["x"], "y", {"axes": [2], "keepdims": 0}), weights={}, opset=17)
    with pytest.raises(KwsError, match="output 'y' of the ONNX model has rank 3"):
        rewrite(before)
    before = chain(("ReduceMean", ["x"], "y", {"axes": [2, 3], "keepdims": 0}), weights={}, opset=17)
    assert_same_function(before, rewrite(before))


DENSE: dict[str, tuple[list[Node], dict[str, Array]]] = {
    "scaled": ([("Gemm", ["x", "w", "b"], "y", {"alpha": 0.5, "beta": 2.0, "transB": 1})], {}),
    "matmul": ([("MatMul", ["x", "wt"], "y", {})], {}),
    "matmul and bias": ([("MatMul", ["x", "wt"], "m", {}), ("Add", ["b", "m"], "y", {})], {}),
    "scaled behind": (
        [("Gemm", ["x", "wt", "b"], "g", {}), ("Mul", ["s", "g"], "m", {}), ("Add", ["m", "b"], "y", {})],
        {"s": RNG.uniform(1, 2, 3)},
    ),
    "norm behind": (
        [("Gemm", ["x", "wt", "b"], "g", {}), ("BatchNormalization", ["g", "s", "b", "b", "s"], "y", {})],
        {"s": RNG.uniform(1, 2, 3)},
    ),
}


@pytest.mark.parametrize("form", DENSE)
def test_constants_around_a_dense_layer_go_into_its_weights(form: str) -> None:
    nodes, extra = DENSE[form]
    weights = {"w": RNG.normal(size=(3, 4)), "wt": RNG.normal(size=(4, 3)), "b": RNG.normal(size=3), **extra}
    used = {name for node in nodes for name in node[1]}
    before = chain(*nodes, weights={name: weights[name] for name in weights if name in used}, shape=FLAT)
    after = rewrite(before)
    assert_same_function(before, after)
    assert ops(after) == ["Gemm"]


def test_an_image_flattened_in_the_order_of_tensorflow_needs_no_transpose() -> None:
    before = chain(
        ("Relu", ["x"], "r", {}),
        ("Transpose", ["r"], "t", {"perm": [0, 2, 3, 1]}),
        ("Reshape", ["t", "flat"], "f", {}),
        ("MatMul", ["f", "w"], "y", {}),
        weights={"flat": np.array([1, -1]), "w": RNG.normal(size=(120, 3))},
    )
    after = rewrite(before)
    assert_same_function(before, after)
    assert ops(after) == ["Relu", "Reshape", "Gemm"]


C1 = {"w": RNG.normal(size=(4, 1, 5)), "b": RNG.normal(size=4)}
ROWS: dict[str, tuple[list[Node], dict[str, Array]]] = {
    "convolution": (
        [("Conv", ["x", "w", "b"], "o", {"group": 4, "dilations": [2], "pads": [3, 1], "strides": [2]})],
        C1,
    ),
    "norm": (
        [("BatchNormalization", ["x", "s", "b", "b", "s"], "o", {})],
        {"s": RNG.uniform(1, 2, 4), "b": RNG.normal(size=4)},
    ),
    "constants by channel and time": (
        [
            ("Mul", ["x", "by_channel"], "m", {}),
            ("Add", ["by_time", "m"], "a", {}),
            ("Mul", ["a", "by_both"], "o", {}),
        ],
        {"by_channel": RNG.normal(size=(4, 1)), "by_time": RNG.normal(size=12), "by_both": RNG.normal(size=(4, 12))},
    ),
    "pools": (
        [
            ("AveragePool", ["x"], "a", {"kernel_shape": [2]}),
            ("MaxPool", ["a"], "o", {"kernel_shape": [3], "pads": [1, 1]}),
        ],
        {},
    ),
    "pad and slice": (
        [("Pad", ["x", "pads"], "p", {}), ("Slice", ["p", "from", "to", "axis"], "o", {})],
        {"pads": np.array([0, 0, 2, 0, 0, 1]), "from": np.array([-9]), "to": np.array([11]), "axis": np.array([-1])},
    ),
    "pad one axis": (
        [("Pad", ["x", "pads", "", "axis"], "o", {})],
        {"pads": np.array([3, 1]), "axis": np.array([2])},
    ),
    "slice without axes": (
        [("Slice", ["x", "from", "to"], "o", {})],
        {"from": np.array([0, 1, 2]), "to": np.array([1, 3, 9])},
    ),
    "concatenation": ([("Relu", ["x"], "r", {}), ("Concat", ["x", "r"], "o", {"axis": -1})], {}),
    "unsqueezed and back": (
        [("Unsqueeze", ["x", "two"], "u", {}), ("Relu", ["u"], "r", {}), ("Squeeze", ["r", "two"], "o", {})],
        {"two": np.array([2])},
    ),
    "activations": ([("Sigmoid", ["x"], "s", {}), ("HardSigmoid", ["s"], "o", {})], {}),
}


@pytest.mark.parametrize("form", ROWS)
def test_rows_become_images_of_height_one(form: str) -> None:
    nodes, weights = ROWS[form]
    before = chain(
        *nodes,
        ("ReduceMean", ["o", "last"], "pooled", {"keepdims": 0}),
        ("MatMul", ["pooled", "head"], "y", {}),
        weights={**weights, "last": np.array([-1]), "head": RNG.normal(size=(2 if "without" in form else 4, 3))},
        shape=ROW,
    )
    after = rewrite(before)
    assert_same_function(before, after)
    made = {name for node in after.graph.node for name in node.output}
    ranks = {len(value.type.tensor_type.shape.dim) for value in after.graph.value_info if value.name in made}
    assert ranks == {2, 4}
    assert Counter(ops(after))["Reshape"] == 2


def test_an_op_without_a_form_on_images_is_refused_by_name() -> None:
    squeeze = ("Flatten", ["e"], "y", {})
    before = chain(("Erf", ["x"], "e", {}), squeeze, weights={}, shape=ROW)
    with pytest.raises(KwsError, match=r"Erf node '.*': there is no int8 form of this op"):
        rewrite(before)
    before = chain(("MatMul", ["x", "w"], "e", {}), squeeze, weights={"w": RNG.normal(size=(12, 3))}, shape=ROW)
    with pytest.raises(KwsError, match=r"MatMul node '.*': there is no int8 form of this use of the op"):
        rewrite(before)


def test_transposes_and_reshapes_behind_the_input_are_its_layout() -> None:
    before = chain(
        ("Transpose", ["x"], "t", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["t", "w"], "y", {}),
        weights={"w": RNG.normal(size=(3, 4, 2, 2))},
        shape=(1, 6, 5, 4),
    )
    after = rewrite(before)
    assert [node.op_type for node in layout_nodes(after)] == ["Transpose"]
    clips = clips_for(before)
    images = InputLayout.of(after)(clips)
    np.testing.assert_array_equal(images, clips.transpose(0, 3, 1, 2))
    flat = chain(("Relu", ["x"], "y", {}), weights={})
    np.testing.assert_array_equal(InputLayout.of(flat)(run(flat, clips_for(flat))), run(flat, clips_for(flat)))
