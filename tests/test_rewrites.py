"""quantize.rewrites: every pass keeps the function, and leaves the tensors that the device should have."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from networks import Array, bcresnet_onnx, clips_for, ds_cnn, graph_model, randomise, relu_model, run
from onnx import helper, numpy_helper
from torch import Tensor, nn

from export.to_onnx import to_onnx
from kws.errors import KwsError
from kws.model import SubSpectralNorm
from quantize.compare import max_abs_difference
from quantize.rewrites import apply_passes, passes, rewrite
from quantize.rewrites.plan import Plan

RELATIVE_TOLERANCE = 1e-4


def ops(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def assert_same_function(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    clips = clips_for(before)
    expected = run(before, clips)
    assert max_abs_difference(expected, run(after, clips)) <= RELATIVE_TOLERANCE * float(np.abs(expected).max())


@pytest.fixture(scope="module", params=[("bcresnet-1", 24), ("bcresnet-2", 31)], ids=lambda param: param[0])
def bcresnet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    name, frames = request.param
    return bcresnet_onnx(tmp_path_factory.mktemp("onnx"), name, frames)


PLANS = {
    "default": Plan(),
    "rows of the second stage": Plan(single_rows=10),
    "every row": Plan(single_rows=20, multiplied_rows=10, stripes=4, mean_as_convolution=False),
}


@pytest.mark.parametrize("plan", ["default", "every row"])
def test_every_pass_keeps_the_function_of_bcresnet(bcresnet: onnx.ModelProto, plan: str) -> None:
    before = apply_passes(bcresnet, [])
    for rewrite_pass in passes(PLANS[plan]):
        after = apply_passes(before, [rewrite_pass])
        assert_same_function(before, after)
        before = after
    assert ops(before) == ops(rewrite(bcresnet, PLANS[plan]))


@pytest.mark.parametrize(("plan", "sums"), [("default", 4), ("rows of the second stage", 2), ("every row", 0)])
def test_single_rows_take_the_broadcast_sums_in(bcresnet: onnx.ModelProto, plan: str, sums: int) -> None:
    assert ops(rewrite(bcresnet, PLANS[plan]))["Add"] == sums


def test_the_plan_decides_about_stripes_and_the_mean_over_time(bcresnet: onnx.ModelProto) -> None:
    whole = rewrite(bcresnet, Plan(stripes=1, mean_as_convolution=False))
    assert ops(whole)["ReduceMean"] + ops(whole)["GlobalAveragePool"] == 1
    # Each stripe more has a stem and a pointwise convolution of its own.
    assert ops(rewrite(bcresnet, Plan(stripes=4)))["Conv"] - ops(rewrite(bcresnet, Plan(stripes=1)))["Conv"] == 6


def test_rows_that_are_multiplied_read_slices_of_one_image(bcresnet: onnx.ModelProto) -> None:
    joined, sliced = (ops(rewrite(bcresnet, Plan(multiplied_rows=rows)))["Slice"] for rows in (0, 5))
    # All eight blocks with five rows then slice: two did before; a row of five in six more.
    assert sliced == joined + 6 * 5


def test_bcresnet_keeps_a_broadcast_add_only_where_bands_are_several_rows_and_no_norm(
    bcresnet: onnx.ModelProto,
) -> None:
    # The last two stages have a band for each row. Two of their blocks read a tensor that is whole: slices of it.
    blocks, bands, one_row_blocks, sliced_blocks = 12, 5, 8, 6
    adding_blocks, more_stripes = blocks - one_row_blocks, 1
    counts = ops(rewrite(bcresnet))
    # Stem, 4 pointwise of transitions, head: 1 + 4 + 4. Each block: mean, temporal, pointwise and one for each band.
    assert counts == {
        "Conv": 1 + 4 + 4 + blocks * (3 + bands) + 2 * more_stripes,
        "Slice": sliced_blocks * bands + 1 + more_stripes,
        "Concat": blocks + one_row_blocks * bands + 1,
        "Add": adding_blocks,
        "Sigmoid": blocks,
        "Mul": blocks,
        "Relu": 1 + 4 + adding_blocks + one_row_blocks * bands + 1 + 2 * more_stripes,
        "Reshape": 1,
    }


def test_single_row_bands_need_no_padding(bcresnet: onnx.ModelProto) -> None:
    rewritten = rewrite(bcresnet)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in rewritten.graph.value_info
    }
    padded = [
        node
        for node in rewritten.graph.node
        if any(attribute.name == "pads" and any(attribute.ints[::2]) for attribute in node.attribute)
    ]
    assert not any(shapes[node.output[0]][2] == 1 for node in padded)


def test_a_slice_is_made_right_before_it_is_read(bcresnet: onnx.ModelProto) -> None:
    nodes = list(rewrite(bcresnet).graph.node)
    assert all(node.output[0] in after.input for node, after in pairwise(nodes) if node.op_type == "Slice")


@pytest.mark.parametrize(("narrow", "rows", "striped"), [(3, 8, True), (3, 7, True), (5, 8, False), (3, 1, False)])
def test_only_a_map_of_several_rows_that_narrows_is_made_in_stripes(
    narrow: int, rows: int, striped: bool, tmp_path: Path
) -> None:
    wide = nn.Conv2d(2, 5, 5, stride=(2, 1), padding=2)
    network = randomise(nn.Sequential(wide, nn.ReLU(), nn.Conv2d(5, narrow, 1), nn.ReLU()), seed=1)
    before = to_onnx(network, (1, 2, 2 * rows, 6), tmp_path / "funnel.onnx")
    after = rewrite(before)
    assert_same_function(before, after)
    whole, stripes = {"Conv": 2, "Relu": 2}, {"Slice": 2, "Conv": 4, "Relu": 4, "Concat": 1}
    assert ops(after) == (stripes if striped else whole)


def test_rewriting_twice_changes_nothing_more(bcresnet: onnx.ModelProto) -> None:
    once = rewrite(bcresnet)
    assert ops(rewrite(once)) == ops(once)


def test_rewriting_leaves_its_argument_alone_and_is_reproducible(bcresnet: onnx.ModelProto) -> None:
    before = bcresnet.SerializeToString(deterministic=True)
    first, second = (rewrite(bcresnet).SerializeToString(deterministic=True) for _ in range(2))
    assert bcresnet.SerializeToString(deterministic=True) == before
    assert first == second


class FrequencyBlock(nn.Module):
    """A depthwise convolution along frequency with its norm, its mean over frequency and a shortcut."""

    def __init__(self, kernel: int, stride: int, padding: int, dilation: int, bands: int, shortcut: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            3, 3, (kernel, 3), (stride, 1), (padding, 1), (dilation, 1), groups=3, bias=kernel == 5
        )
        self.norm = SubSpectralNorm(3, bands)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        auxiliary = self.norm(self.convolution(x))
        total = auxiliary + torch.sigmoid(auxiliary.mean(dim=2, keepdim=True))
        return torch.relu(total + x if self.shortcut else total)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "bands", "shortcut"),
    [
        (3, 1, 1, 1, 4, True),
        (3, 2, 1, 1, 6, False),
        (5, 1, 2, 1, 3, True),
        (5, 3, 0, 1, 3, False),
        (3, 1, 2, 2, 12, False),
        (3, 1, 2, 2, 6, True),
        (2, 1, 0, 1, 11, False),
    ],
)
def test_other_kernels_strides_dilations_and_bands(
    kernel: int, stride: int, padding: int, dilation: int, bands: int, shortcut: bool, tmp_path: Path
) -> None:
    block = randomise(FrequencyBlock(kernel, stride, padding, dilation, bands, shortcut), seed=kernel)
    before = to_onnx(block, (1, 3, 12, 7), tmp_path / "block.onnx")
    after = rewrite(before)
    assert_same_function(before, after)
    counts = ops(after)
    one_row_bands = bands == 4 and stride == 3
    assert counts["Add"] == (2 if bands > 10 else 0 if one_row_bands else 1)
    assert counts["ReduceMean"] == counts["BatchNormalization"] == 0
    assert counts["Concat"] == (0 if bands > 10 else 1)


def test_norm_behind_a_dense_convolution_is_folded_per_band(tmp_path: Path) -> None:
    block = randomise(nn.Sequential(nn.Conv2d(2, 3, (3, 3), (2, 1), (1, 1)), SubSpectralNorm(3, 3)), seed=0)
    before = to_onnx(block, (1, 2, 12, 7), tmp_path / "block.onnx")
    after = rewrite(before)
    assert_same_function(before, after)
    assert ops(after) == {"Slice": 3, "Conv": 3, "Concat": 1}


def test_equal_bands_become_one_convolution(tmp_path: Path) -> None:
    block = FrequencyBlock(3, 1, 1, 1, 4, shortcut=True).eval()
    before = to_onnx(block, (1, 3, 12, 7), tmp_path / "block.onnx")
    after = rewrite(before)
    assert_same_function(before, after)
    assert ops(after) == {"Conv": 2, "Sigmoid": 1, "Add": 1, "Relu": 1}


def test_batch_norm_behind_any_convolution_is_folded_and_elsewhere_becomes_mul_and_add() -> None:
    rng = np.random.default_rng(0)
    norm = {f"{name}{index}": rng.uniform(0.5, 1.5, 4) for index in (1, 2) for name in ("gamma", "beta", "mean", "var")}
    names = [["gamma1", "beta1", "mean1", "var1"], ["gamma2", "beta2", "mean2", "var2"]]
    before = graph_model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c", *names[0]], ["n"], epsilon=1e-3),
            helper.make_node("Relu", ["n"], ["r"]),
            helper.make_node("BatchNormalization", ["r", *names[1]], ["y"], epsilon=0.1),
        ],
        {"w": rng.normal(size=(4, 2, 3, 3)), **norm},
        (1, 2, 6, 5),
        (1, 4, 6, 5),
    )
    after = rewrite(before)
    assert_same_function(before, after)
    assert [node.op_type for node in after.graph.node] == ["Conv", "Relu", "Mul", "Add"]


def test_norm_stays_outside_a_convolution_that_is_read_elsewhere() -> None:
    rng = np.random.default_rng(0)
    before = graph_model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("Mul", ["c", "scale"], ["m"]),
            helper.make_node("Add", ["m", "c"], ["y"]),
        ],
        {"w": rng.normal(size=(3, 2, 1, 1)), "scale": rng.normal(size=(1, 3, 4, 1))},
        (1, 2, 4, 5),
        (1, 3, 4, 5),
    )
    after = rewrite(before)
    assert_same_function(before, after)
    assert ops(after) == {"Conv": 1, "Mul": 1, "Add": 1}


def test_constants_identities_and_dropout_disappear() -> None:
    before = graph_model(
        [
            helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32([2.0]))),
            helper.make_node("Sqrt", ["two"], ["root"]),
            helper.make_node("Identity", ["x"], ["i"]),
            helper.make_node("Dropout", ["i"], ["d"]),
            helper.make_node("Mul", ["d", "root"], ["y"]),
        ],
        {},
        (1, 2, 3, 4),
        (1, 2, 3, 4),
    )
    after = rewrite(before)
    assert_same_function(before, after)
    assert ops(after) == {"Mul": 1}


@pytest.mark.parametrize(("target", "kept"), [([1, 6], False), ([0, 3], True)])
def test_allowzero_goes_only_where_it_says_nothing(target: list[int], kept: bool) -> None:
    shape = (0, 3) if kept else (1, 6)
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], allowzero=1)
    before = graph_model([node], {"shape": np.array(target)}, (1, 6, 1, 1), shape)
    after = rewrite(before)
    assert [attribute.name for attribute in after.graph.node[0].attribute] == (["allowzero"] if kept else [])


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_model_without_these_patterns_passes_unharmed(opset: int) -> None:
    before = ds_cnn(opset)
    after = rewrite(before)
    assert_same_function(before, after)
    assert [node.op_type for node in after.graph.node] == [
        "Reshape" if node.op_type == "Flatten" else node.op_type for node in before.graph.node
    ]


@pytest.mark.parametrize(
    ("opset", "op_type", "attributes", "weights"),
    [
        (17, "ReduceMean", {"axes": [-1]}, {}),
        (18, "ReduceMean", {}, {"axes": np.array([2, 3])}),
        (18, "GlobalAveragePool", {}, {}),
    ],
)
def test_spatial_means_become_convolutions(
    opset: int, op_type: str, attributes: dict[str, Any], weights: dict[str, Array]
) -> None:
    rows = 4 if attributes else 1
    before = graph_model(
        [helper.make_node(op_type, ["x", *weights], ["y"], **attributes)], weights, (1, 3, 4, 5), (1, 3, rows, 1), opset
    )
    after = rewrite(before)
    assert_same_function(before, after)
    assert ops(after) == {"Conv": 1}


@pytest.mark.parametrize(
    ("axes", "shape", "output", "expected"),
    [
        ([1], (1, 3, 4, 5), (1, 1, 4, 5), {"ReduceMean": 1}),
        ([3], (1, 2, 1, 129), (1, 2, 1, 1), {"ReduceMean": 1}),
        ([2, 3], (1, 2, 12, 12), (1, 2, 1, 1), {"Conv": 2}),
    ],
    ids=["over channels", "over a long row", "over a large area, by H and by W"],
)
def test_other_means(
    axes: list[int], shape: tuple[int, ...], output: tuple[int, ...], expected: dict[str, int]
) -> None:
    before = graph_model(
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"])], {"axes": np.array(axes)}, shape, output
    )
    after = rewrite(before)
    assert_same_function(before, after)
    assert ops(after) == expected


def test_unusable_models_are_refused_in_a_sentence() -> None:
    external, invalid = relu_model(), relu_model()
    external.graph.initializer.add(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    invalid.graph.node[0].input[0] = "nothing"
    for model, reason in (
        (relu_model(("batch", 2)), "'x' of the ONNX model has a dynamic shape"),
        (relu_model(opset=13), "has opset 13; export it with opset 17"),
        (external, "weights in other files"),
        (invalid, "not valid"),
    ):
        with pytest.raises(KwsError, match=reason):
            rewrite(model)
