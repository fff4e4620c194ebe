"""Network -> float ONNX: one static, self-contained file with nothing in it but the network."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from kws import __version__
from kws.artifact import atomic_file
from kws.errors import KwsError

if TYPE_CHECKING:
    import torch

INPUT_NAME = "log_mel"
OUTPUT_NAME = "logits"
OPSET = 18


def to_onnx(model: torch.nn.Module, example_shape: Sequence[int], path: Path) -> onnx.ModelProto:
    """Write `model` in evaluation mode to `path` and return what was written; `model` itself is left as it was.

    `example_shape` is the shape of the one float32 input, e.g. (1, 1, mel_bands, frames); the graph has this fixed
    shape, input "log_mel" and output "logits". The same network gives the same bytes.
    Raises KwsError if torch cannot export the model or `path` cannot be written.
    """
    exported = _export(model, tuple(example_shape), path)
    _strip(exported)
    onnx.checker.check_model(exported, full_check=True)
    with atomic_file(path) as temporary:
        temporary.write_bytes(exported.SerializeToString(deterministic=True))
    return exported


def _export(model: torch.nn.Module, example_shape: tuple[int, ...], path: Path) -> onnx.ModelProto:
    import torch

    network = copy.deepcopy(model).cpu().eval()
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (torch.zeros(example_shape),),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise KwsError(
            f"{path}: torch cannot export {type(model).__name__} to ONNX for an input of shape {example_shape}; "
            "check that the input fits the model and that it has no control flow that depends on data."
        ) from error
    assert program is not None
    return program.model_proto


def _strip(model: onnx.ModelProto) -> None:
    """Remove documentation and metadata: the exporter writes stack traces with paths of this machine into them."""
    model.producer_name, model.producer_version, model.doc_string = "kws", __version__, ""
    model.graph.name, model.graph.doc_string = "kws", ""
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    for item in (*model.graph.node, *model.graph.initializer, *values):
        item.doc_string = ""
        del item.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings off the terminal; its errors still raise."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
