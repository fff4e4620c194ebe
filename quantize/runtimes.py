"""Callables that answer a batch of features with logits, each hiding the library that computes them.

They trust their model: validate a .tflite from a stranger before it comes here, since the C++ interpreters do not.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError
from quantize.affine import Affine, FloatArray, StepArray, StepType

Source = str | Path | bytes

# Beyond activations the arena holds bookkeeping of ops, tensors and channels, and scratch buffers of kernels.
_ARENA_BASE_BYTES = 1 << 16
_ARENA_BYTES_PER_OP = 1 << 12
_ARENA_BYTES_PER_MODEL_BYTE = 16
_ARENA_BYTES_PER_ELEMENT = 2


class OnnxRuntime:
    """onnxruntime on one thread and without graph optimization, so that each node computes as written."""

    def __init__(self, source: Source, name: str = "") -> None:
        """`source` is a path or the model itself, then `name` tells errors whose. Raises KwsError if it cannot be
        loaded."""
        import onnxruntime

        model, self._name = _read(source), name or _name(source)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the only base class that onnxruntime's exceptions share
            raise KwsError(f"{self._name}: onnxruntime cannot load it; make or export it anew.") from error
        self._input = self._session.get_inputs()[0]
        self.clip_shape: tuple[int, ...] = tuple(self._input.shape[1:])
        self._output = self._session.get_outputs()[0]

    def __call__(self, features: FloatArray) -> FloatArray:
        """float32 (n, *clip_shape) -> float32 logits (n, classes). Raises KwsError for another shape."""
        _require_shape(features, self.clip_shape)
        if not len(features):
            return np.zeros((0, *self._output.shape[1:]), np.float32)
        return np.concatenate([self._run(clip[np.newaxis]) for clip in features])

    def _run(self, clip: FloatArray) -> FloatArray:
        try:
            answer: FloatArray = self._session.run(None, {self._input.name: clip})[0]
        except Exception as error:  # the only base class that onnxruntime's exceptions share
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise KwsError(f"{self._name}: onnxruntime cannot run it ({reason}); export the model anew.") from error
        return answer


class IntegerRuntime(ABC):
    """An int8 or int16 TFLite model: `input` and `output` are its own affines, the shapes its own (NHWC)."""

    input: Affine
    output: Affine
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def __init__(self, input_details: dict[str, Any], output_details: dict[str, Any], name: str) -> None:
        self.input = _affine(input_details, name)
        self.output = _affine(output_details, name)
        *_, channels = self.input_shape = tuple(int(size) for size in input_details["shape"])
        self._clip_shape = (channels, *self.input_shape[1:-1])
        self.output_shape = tuple(int(size) for size in output_details["shape"])

    def __call__(self, features: FloatArray) -> StepArray:
        """float32 (n, channels, height, width) or (n, channels) -> int8 or int16 logits (n, classes).

        Raises KwsError for another shape or NaN.
        """
        _require_shape(features, self._clip_shape)
        quantized = np.moveaxis(self.input.quantize(features), 1, -1)
        logits: StepArray = np.zeros((len(features), *self.output_shape[1:]), self.output.dtype)
        for index, clip in enumerate(quantized):
            logits[index] = self._invoke(np.ascontiguousarray(clip[np.newaxis]))[0]
        return logits

    @abstractmethod
    def _invoke(self, values: StepArray) -> npt.NDArray[Any]:
        """int8 or int16 NHWC input of batch 1 -> the output tensor. No state is left between calls."""


class TflmRuntime(IntegerRuntime):
    """TensorFlow Lite for Microcontrollers with its reference kernels: the oracle for what a device computes."""

    def __init__(self, source: Source, *, keep_tensors: bool = False) -> None:
        """`source` is a path or the model itself; `keep_tensors` makes `tensor` answer for all of them.

        Raises KwsError if TFLM cannot prepare it.
        """
        from tflite_micro import runtime

        model = _read(source)
        modes = runtime.InterpreterConfig
        try:
            self._interpreter = runtime.Interpreter.from_bytes(
                model,
                arena_size=_arena_bytes(model),
                intrepreter_config=modes.kPreserveAllTensors if keep_tensors else modes.kAllocationRecording,
            )
        except RuntimeError as error:
            raise KwsError(f"{_name(source)}: TFLM cannot prepare it; make it anew with kws quantize.") from error
        super().__init__(self._interpreter.get_input_details(0), self._interpreter.get_output_details(0), _name(source))

    def tensor(self, index: int) -> StepArray:
        """The int8 or int16 tensor number `index` of the model as the last clip left it; needs `keep_tensors`."""
        values: StepArray = self._interpreter.GetTensor(index, 0)["tensor_data"]
        return values

    def _invoke(self, values: StepArray) -> npt.NDArray[Any]:
        self._interpreter.set_input(values, 0)
        self._interpreter.invoke()
        output: npt.NDArray[Any] = self._interpreter.get_output(0)
        return output


class TfliteReferenceRuntime(IntegerRuntime):
    """TensorFlow Lite's reference kernels. Its default kernels differ from them by several steps."""

    def __init__(self, source: Source) -> None:
        """`source` is a path or the model itself. Raises KwsError if TensorFlow Lite cannot prepare it."""
        model = _read(source)
        tf = load_tensorflow()
        with _silence():
            resolver = tf.lite.experimental.OpResolverType.BUILTIN_REF
            try:
                self._interpreter = tf.lite.Interpreter(
                    model_content=model, experimental_op_resolver_type=resolver, num_threads=1
                )
                self._interpreter.allocate_tensors()
            except (RuntimeError, ValueError) as error:
                raise KwsError(
                    f"{_name(source)}: TensorFlow Lite cannot prepare it; make it anew with kws quantize."
                ) from error
        (input_details,) = self._interpreter.get_input_details()
        (output_details,) = self._interpreter.get_output_details()
        self._input_index, self._output_index = input_details["index"], output_details["index"]
        super().__init__(input_details, output_details, _name(source))

    def _invoke(self, values: StepArray) -> npt.NDArray[Any]:
        self._interpreter.set_tensor(self._input_index, values)
        self._interpreter.invoke()
        output: npt.NDArray[Any] = self._interpreter.get_tensor(self._output_index)
        return output


def load_tensorflow() -> Any:
    """The module, imported without a word; it takes seconds."""
    with _silence():
        import tensorflow

    return tensorflow


def _affine(details: dict[str, Any], name: str) -> Affine:
    parameters = details["quantization_parameters"]
    types: dict[Any, StepType] = {np.int8: "int8", np.int16: "int16"}
    dtype = types.get(details["dtype"])
    if dtype is None or len(parameters["scales"]) != 1:
        raise KwsError(f"{name}: its input and output must be int8 or int16 with one scale; run kws quantize again.")
    return Affine(parameters["scales"][0], int(parameters["zero_points"][0]), dtype=dtype)


def _arena_bytes(model: bytes) -> int:
    """Enough for every tensor of `model` to have its own place: the host has memory, and a plan is not the point."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    subgraph = schema.Model.GetRootAs(model).Subgraphs(0)
    tensors = (subgraph.Tensors(index) for index in range(subgraph.TensorsLength()))
    elements = sum(math.prod(tensor.ShapeAsNumpy().tolist()) for tensor in tensors) * _ARENA_BYTES_PER_ELEMENT
    operators: int = subgraph.OperatorsLength()
    bookkeeping = _ARENA_BYTES_PER_OP * operators + _ARENA_BYTES_PER_MODEL_BYTE * len(model)
    return int(_ARENA_BASE_BYTES + bookkeeping + elements)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep TensorFlow's start-up notes (written by C++, before its log level counts) and its deprecation away."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as null, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _require_shape(features: FloatArray, clip_shape: tuple[int, ...]) -> None:
    if features.shape[1:] != clip_shape or features.dtype != np.float32:
        raise KwsError(
            f"Features of shape {features.shape} and type {features.dtype} do not fit the model, "
            f"which takes float32 (n, {', '.join(map(str, clip_shape))}); extract them with the model's own settings."
        )


def _read(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise KwsError(f"{source}: cannot be read ({error.strerror}); give the path of a model.") from error


def _name(source: Source) -> str:
    return "The model" if isinstance(source, bytes) else str(source)
