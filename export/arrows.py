"""The arrows of a build: each of its models held against the one before it, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx

from kws.errors import KwsError
from kws.metrics import agreement, sqnr_db
from quantize.affine import FloatArray, StepArray
from quantize.compare import (
    Check,
    check_device,
    check_export,
    check_kernels,
    check_quantization,
    check_rewrite,
    step_differences,
)
from quantize.input_layout import InputLayout
from quantize.reference import ReferenceProcess
from quantize.runtimes import OnnxRuntime, TflmRuntime


@dataclass(frozen=True, kw_only=True)
class ModelPaths:
    """The four models of a build, in the order in which they are made."""

    float_onnx: Path
    prepared_onnx: Path
    qdq_onnx: Path
    tflite: Path


class Arrows:
    """The models of a build on `features`, float32 (n, ...) as its float model takes them.

    Each model runs once, when the first arrow asks for its answers. Every method raises KwsError if a model that it
    needs cannot be loaded, takes other inputs or has other classes.
    """

    def __init__(self, models: ModelPaths, features: FloatArray, reference: ReferenceProcess) -> None:
        self._models, self._features, self._reference = models, features, reference
        self._is_asked = False

    def ask_reference(self) -> None:
        """Let the reference kernels begin, which run beside all else; `kernels` asks them if nobody did."""
        if not self._is_asked:
            self._reference.ask(self._models.tflite.read_bytes(), self._images)
            self._is_asked = True

    def export(self, answer: Callable[[FloatArray], FloatArray], origin: str) -> list[Check]:
        """`answer` takes the features to the logits of what the float ONNX model was made from, called `origin`."""
        return check_export(answer(self._features), self.float_logits, origin)

    def rewrite(self) -> list[Check]:
        return check_rewrite(self.float_logits, self._prepared_logits)

    def quantization(self) -> list[Check]:
        return check_quantization(self._prepared_logits, self._qdq_logits)

    def to_device(self) -> list[Check]:
        return check_device(self._simulated, self.device_logits)

    def kernels(self) -> list[Check]:
        self.ask_reference()
        return check_kernels(self._reference.logits(), self.device_logits)

    def figures(self) -> dict[str, float]:
        """What no tolerance is for, by name."""
        integer = self.device.output.dtype
        steps = step_differences(self._simulated, self.device_logits).max_steps
        return {
            "rewritten ONNX -> QDQ ONNX: share of clips with the same answer": agreement(
                self._prepared_logits, self._qdq_logits
            ),
            f"QDQ ONNX -> TFLM: largest logit difference in {integer} steps": steps,
            "float ONNX -> TFLM: logit SQNR in dB": sqnr_db(
                self.float_logits, self.device.output.dequantize(self.device_logits)
            ),
        }

    @cached_property
    def float_logits(self) -> FloatArray:
        return OnnxRuntime(self._models.float_onnx)(self._features)

    @cached_property
    def device(self) -> TflmRuntime:
        return TflmRuntime(self._models.tflite)

    @cached_property
    def device_logits(self) -> StepArray:
        return self.device(self._images)

    @cached_property
    def _prepared_logits(self) -> FloatArray:
        return OnnxRuntime(self._models.prepared_onnx)(self._features)

    @cached_property
    def _qdq_logits(self) -> FloatArray:
        return OnnxRuntime(self._models.qdq_onnx)(self._features)

    @cached_property
    def _simulated(self) -> StepArray:
        return self.device.output.quantize(self._qdq_logits)

    @cached_property
    def _images(self) -> FloatArray:
        """The features as the device takes them, in ONNX's order of axes."""
        path = self._models.prepared_onnx
        wanted, given = OnnxRuntime(path).clip_shape, self._features.shape[1:]
        if wanted != given:
            raise KwsError(f"{path}: takes inputs of shape {wanted}, not {given}; run kws quantize again.")
        return InputLayout.of(onnx.load(path))(self._features)
