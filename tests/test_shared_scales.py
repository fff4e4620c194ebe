"""quantize.shared_scales: fewer vectors of weight scales, each large enough, at bounded noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from networks import bcresnet_onnx, clips_for, graph_model, run
from onnx import helper

from export.device_graph import device_model
from kws.metrics import sqnr_db
from quantize.calibration import calibrate
from quantize.qdq import quantize_model
from quantize.rewrites import rewrite
from quantize.rewrites.plan import Plan
from quantize.shared_scales import MOST_NOISE, joined_layers, share_scales

PLAN = Plan(multiplied_rows=5, rows_together=1, stripes=1, mean_as_convolution=False)
Scales = dict[str, npt.NDArray[np.float32]]


def made_up(layers: int, channels: int, spread: float, seed: int = 0) -> Scales:
    """Log-normal scales."""
    normal = np.random.default_rng(seed).normal(size=(layers, channels))
    return {f"layer_{index}": row for index, row in enumerate(np.exp(spread * normal).astype(np.float32))}


def vectors(scales: Scales) -> int:
    return len({vector.tobytes() for vector in scales.values()})


def noise(wanted: Scales, shared: Scales) -> float:
    return float(np.mean([np.mean((shared[name] / wanted[name]) ** 2) - 1 for name in wanted]))


def test_layers_share_scales_that_suffice_for_all_at_bounded_noise() -> None:
    wanted = made_up(30, 16, spread=0.4)
    shared = share_scales(wanted, [])
    assert all((shared[name] >= wanted[name]).all() for name in wanted)
    assert vectors(shared) <= vectors(wanted) / 3
    assert 0.5 * MOST_NOISE < noise(wanted, shared) <= MOST_NOISE


def test_no_scale_is_larger_than_one_of_its_layers_wants() -> None:
    wanted = made_up(30, 16, spread=0.4)
    shared = share_scales(wanted, [])
    for vector in shared.values():
        sharing = [wanted[name] for name, other in shared.items() if np.array_equal(other, vector)]
        np.testing.assert_array_equal(vector, np.max(sharing, axis=0))


def test_a_layer_far_from_all_others_and_one_of_other_channels_keep_their_scales() -> None:
    wanted = made_up(20, 16, spread=0.1)
    wanted["far"] = 100 * wanted["layer_0"]
    wanted["narrow"] = np.ones(8, np.float32)
    shared = share_scales(wanted, [])
    np.testing.assert_array_equal(shared["far"], wanted["far"])
    np.testing.assert_array_equal(shared["narrow"], wanted["narrow"])
    assert vectors(shared) == 3


def test_parts_of_one_map_share_a_vector_whatever_that_costs() -> None:
    wanted = made_up(4, 16, spread=2.0)
    shared = share_scales(wanted, [["layer_0", "layer_1"]])
    largest = np.maximum(wanted["layer_0"], wanted["layer_1"])
    np.testing.assert_array_equal(shared["layer_0"], largest)
    np.testing.assert_array_equal(shared["layer_1"], largest)
    np.testing.assert_array_equal(shared["layer_2"], wanted["layer_2"])


@pytest.mark.parametrize(("axis", "found"), [(2, [["a", "b"]]), (-2, [["a", "b"]]), (1, []), (-3, [])])
def test_parts_of_one_map_are_its_rows_not_its_channels(axis: int, found: list[list[str]]) -> None:
    nodes = [helper.make_node("Conv", ["x", f"w_{name}"], [name]) for name in "ab"]
    nodes.append(helper.make_node("Concat", ["a", "b"], ["y"], axis=axis))
    weights = {f"w_{name}": np.ones((2, 2, 1, 1)) for name in "ab"}
    shape = (1, 2, 8, 3) if axis in (2, -2) else (1, 4, 4, 3)
    assert joined_layers(graph_model(nodes, weights, (1, 2, 4, 3), shape)) == found


@pytest.mark.slow
def test_bcresnet_takes_less_flash_and_stays_close_to_float(tmp_path: Path) -> None:
    float_model = bcresnet_onnx(tmp_path, "bcresnet-1", 98)
    prepared, clips = rewrite(float_model, PLAN), clips_for(float_model, 24)
    assert [len(names) for names in joined_layers(prepared)] == [5] * 12
    ranges, expected = calibrate(prepared, clips), run(float_model, clips)
    own, shared = (quantize_model(prepared, ranges, shared_scales=share) for share in (False, True))
    assert len(device_model(shared, PLAN)) < 0.93 * len(device_model(own, PLAN))
    assert sqnr_db(expected, run(shared, clips)) > sqnr_db(expected, run(own, clips)) - 6.0
