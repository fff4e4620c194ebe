"""A build folder, read and checked: its model, and what each form of it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args

import onnx
import torch

from export.arena import ARENA_CORES, measure_arena_bytes
from export.arena_32_bit import arena_on
from export.build import FLOAT_ONNX, ModelFiles
from export.cost_model import estimate_ops, total
from export.firmware_model import FirmwareModel, read_firmware_model
from export.tflite_reader import parse_tflite
from kws.artifact import MANIFEST_NAME, read_manifest
from kws.benchmark import FLOAT, QDQ, TFLITE, TORCH, Costs, Logits
from kws.checkpoint import CHECKPOINT_NAME, load_checkpoint
from kws.config import FeatureConfig
from kws.errors import KwsError
from kws.training.log import LOG_NAME
from quantize.affine import Affine, FloatArray, StepType
from quantize.device_answers import device_answers
from quantize.input_layout import InputLayout
from quantize.reference import ReferenceProcess, reference_process
from quantize.runtimes import OnnxRuntime

TORCH_CLIPS_AT_ONCE = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A build `folder` whose files are those that its manifest describes."""

    folder: Path
    manifest: Mapping[str, Any]
    files: ModelFiles
    model: FirmwareModel

    @property
    def device(self) -> str:
        return self.files.activations

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms that it can be run in; a build of a given ONNX model has no checkpoint, and so no "torch"."""
        torch_forms = (TORCH,) if CHECKPOINT_NAME in self.manifest["files"] else ()
        return (*torch_forms, FLOAT, QDQ, TFLITE, self.device)

    def feature_config(self) -> FeatureConfig:
        """Raises KwsError for a build of a given ONNX model."""
        if self.model.features is None:
            raise KwsError(f"{self.folder}: came from an ONNX model and has no features; give --inputs and --targets.")
        return self.model.features

    @cached_property
    def output(self) -> Affine:
        return Affine(self.model.output.scale, self.model.output.zero_point, dtype=self.model.output.dtype)

    @cached_property
    def layout(self) -> InputLayout:
        """From inputs as the float model takes them to those of the device."""
        return InputLayout.of(onnx.load(self.folder / self.files.qdq_onnx))

    def network_figure(self, name: str) -> int | None:
        """The network's "macs" or "params", as training counted them; None where the manifest does not say."""
        figures = self.manifest.get("model")
        figure = figures.get(name) if isinstance(figures, dict) else None
        return figure if isinstance(figure, int) else None


def read_built(folder: Path) -> Built:
    """Raises KwsError for a build that is incomplete or was changed."""
    manifest = read_manifest(folder, verify=[])
    files = model_files(folder, manifest)
    described = manifest.get("files")
    known = described if isinstance(described, dict) else {}
    kept = [name for name in (CHECKPOINT_NAME, LOG_NAME) if name in known]
    read_manifest(folder, verify=[*files.all, *kept])
    model = read_firmware_model(folder / files.tflite)
    return Built(folder=folder, manifest=manifest, files=files, model=model)


def model_files(folder: Path, manifest: Mapping[str, Any]) -> ModelFiles:
    """The names of the models of the build `folder`; raises KwsError if its `manifest` does not say of which type they
    are."""
    options = manifest.get("options")
    activations = options.get("activations") if isinstance(options, dict) else None
    if activations not in get_args(StepType):
        raise KwsError(f"{folder / MANIFEST_NAME}: does not say what its model computes with; run kws quantize again.")
    return ModelFiles(cast(StepType, activations))


def costs_of(built: Built) -> Costs:
    data, source = built.model.data, str(built.folder / built.files.tflite)
    facts = parse_tflite(data, source)
    estimate = total(estimate_ops(facts))
    return Costs(
        model_bytes=len(data),
        arena_bytes=measure_arena_bytes(data, source),
        arena={core: arena_on(core, facts).needed for core in ARENA_CORES},
        macs=built.network_figure("macs"),
        params=built.network_figure("params"),
        estimated_instructions={**estimate.instructions, "unmeasured_ops": estimate.unmeasured_ops},
    )


def float_and_device(built: Built, inputs: FloatArray) -> dict[str, Logits]:
    """float32 logits (n, classes) of float ONNX and, dequantized, of TFLM for `inputs` as the float model has
    them."""
    of_float = OnnxRuntime(built.folder / FLOAT_ONNX)(inputs)
    steps = device_answers(built.model.data, built.layout(inputs), f"{built.device} model")
    return {FLOAT: of_float, built.device: built.output.dequantize(steps)}


class OtherForms:
    """The forms of a build besides float ONNX and TFLM; made by `other_forms`, asked once and then told."""

    def __init__(self, built: Built, reference: ReferenceProcess) -> None:
        self._built = built
        self._reference = reference

    def ask(self, inputs: FloatArray) -> None:
        """TensorFlow Lite's reference kernels go to work, in a process of their own, while the caller does."""
        self._reference.ask(self._built.model.data, self._built.layout(inputs))

    def logits(self, inputs: FloatArray) -> dict[str, Logits]:
        """float32 (n, classes) by form for what was asked. Raises KwsError if a form cannot be run."""
        built = self._built
        found = {TORCH: _torch_logits(built, inputs)} if TORCH in built.forms else {}
        found[QDQ] = OnnxRuntime(built.folder / built.files.qdq_onnx)(inputs)
        found[TFLITE] = built.output.dequantize(self._reference.logits())
        return found


@contextmanager
def other_forms(built: Built) -> Iterator[OtherForms]:
    with reference_process() as reference:
        yield OtherForms(built, reference)


def _torch_logits(built: Built, inputs: FloatArray) -> Logits:
    network = load_checkpoint(built.folder / CHECKPOINT_NAME).build()
    starts = range(0, len(inputs), TORCH_CLIPS_AT_ONCE)
    with torch.inference_mode():
        parts = [network(torch.from_numpy(inputs[start : start + TORCH_CLIPS_AT_ONCE])) for start in starts]
        logits: Logits = torch.cat(parts).numpy()
    return logits
