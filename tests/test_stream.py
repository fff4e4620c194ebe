from __future__ import annotations

import numpy as np
import onnx
from networks import clips_for, ds_cnn, run

from quantize.calibration import calibrate
from quantize.device_rounding import round_as_device
from quantize.qdq import quantize_model
from quantize.rewrites import rewrite
from quantize.stream import Stream


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    return round_as_device(quantize_model(model, calibrate(model, clips_for(model))))


def test_all_clips_at_once_answer_as_each_alone() -> None:
    model = rewrite(ds_cnn(18))
    clips = clips_for(model, 5, seed=1)
    for form in (model, quantized(model)):
        answers = Stream(form, clips).run_until(form.graph.output[0].name)
        np.testing.assert_allclose(answers, run(form, clips), atol=1e-5 * float(np.abs(answers).max()))


def test_values_are_kept_until_they_are_last_read() -> None:
    model = ds_cnn(18)
    stream = Stream(model, clips_for(model, 3))
    assert stream.run_until("r2").shape == (3, 6, 4, 5)
    assert set(stream.values) == {"r2"}
    stream.run_until("g")
    assert set(stream.values) == {"g"}


def test_constants_may_be_replaced_on_the_way() -> None:
    model = ds_cnn(18)
    stream = Stream(model, clips_for(model, 3))
    stream.run_until("f")
    stream.constants["w4"] = np.zeros_like(stream.constants["w4"])
    stream.constants["b4"] = np.array([1.0, 2.0, 3.0], np.float32)
    np.testing.assert_array_equal(stream.run_until("g"), [[1.0, 2.0, 3.0]] * 3)
