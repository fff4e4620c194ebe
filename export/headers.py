"""TFLite model + manifest -> a firmware folder: the skeleton, with generated/ rendered from the model.

The target cmake is the folder that builds by itself; the others are packages for boards, of export.board_package.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from export import cgen
from export.arena import (
    ARENA_CORES,
    ARENA_MARGIN_BYTES,
    CORE_ARENA_MARGIN_BYTES,
    core_arena_bytes,
    core_arena_least_bytes,
    firmware_arena_bytes,
    measure_arena_bytes,
)
from export.board_package import (
    BOARD_PACKAGES,
    TARGETS_FOLDER,
    TEMPLATE_SUFFIX,
    board_arena_bytes,
    generated_templates,
    registrations,
    skeleton_files,
)
from export.feature_tables import feature_values, table_values
from export.firmware_model import FirmwareModel, IntegerTensor, read_firmware_model
from export.golden import Golden, make_golden
from kws import __version__
from kws.artifact import atomic_folder
from kws.config import SILENCE_LABEL, UNKNOWN_LABEL
from kws.detector import DetectorParams, exp_tables
from kws.errors import KwsError

GENERATED_FOLDER = "generated"
CMAKE_TARGET = "cmake"
TARGETS = (CMAKE_TARGET, *BOARD_PACKAGES)
_DETECTOR_PREFIX = "detector_"
_FRONT_END_PREFIXES = ("feature_", _DETECTOR_PREFIX)

_EXPORT_FOLDER = Path(__file__).resolve().parent
_SKELETON_FOLDER = _EXPORT_FOLDER.parent / "firmware_template"
# A folder with all of these, and with no mark of a package, is a firmware folder of target cmake.
_SKELETON_MARKS = (Path("CMakeLists.txt"), Path("src/inference.cc"))
_FRONT_END_MARK = Path("src/frontend.c")
# What a model without features gets: nothing here knows how its input is made.
_WITHOUT_FRONT_END = (
    "CMakeLists.txt",
    "README.md",
    "cmake/tflm.cmake",
    "cmake/tflm_checks.cmake",
    "src/inference.cc",
    "src/inference.h",
    "src/posteriors.c",
    "src/posteriors.h",
)


def render_firmware(
    model: Path, out: Path, detector: DetectorParams | None = None, target: str = CMAKE_TARGET
) -> list[Path]:
    """Make `out` a firmware folder for the TFLite file `model`, which has its manifest beside it.

    A new or empty `out` gets the whole skeleton of `target`, one of TARGETS; of a model without features (one that came
    from ONNX) only what runs the model, and for target cmake only: inference, model and labels, but no front end and no
    program. In an existing firmware folder of this target the generated files are rendered anew and missing files of
    the skeleton are added; files that are there, which may have been edited, stay as they are. `detector` (by default
    that of kws.detector) goes with a front end only.

    Returns the files written, sorted. Raises KwsError if the model, its manifest, `detector`, `target` or `out` does
    not fit.
    """
    if target not in TARGETS:
        raise KwsError(f"{target}: no such target; choose one of {', '.join(TARGETS)}.")
    firmware_model = read_firmware_model(model)
    has_front_end = firmware_model.features is not None
    present = _present_files(out, target)
    if not has_front_end and _FRONT_END_MARK in present:
        raise KwsError(f"{out}: has the front end of another model, and {model} has none; choose a new folder.")
    if not has_front_end and detector is not None:
        raise KwsError(f"{model}: has no features, so its firmware has no detector; leave out the detector.")
    if not has_front_end and target != CMAKE_TARGET:
        raise KwsError(f"{model}: has no features, so no microphone can feed it; choose target {CMAKE_TARGET}.")
    skeleton = {path: data for path, data in _skeleton(target, has_front_end).items() if path not in present}
    measured_bytes = measure_arena_bytes(firmware_model.data, source=str(model))
    golden = make_golden(firmware_model, measured_bytes)
    generated = _generated(firmware_model, measured_bytes, golden, detector or DetectorParams(), target)
    try:
        with atomic_folder(out) as temporary:
            _write_files(temporary, skeleton | generated)
    except OSError as error:
        raise KwsError(
            f"{out}: cannot write the firmware ({error.strerror or error}); choose another output folder."
        ) from error
    return sorted(out / path for path in (*skeleton, *generated))


def _generated(
    model: FirmwareModel, measured_arena_bytes: int, golden: Golden, detector: DetectorParams, target: str
) -> dict[Path, bytes]:
    """Path in the firmware folder -> contents of each generated file."""
    if target == CMAKE_TARGET:
        texts = render_generated(model, measured_arena_bytes, golden, detector)
        return {Path(GENERATED_FOLDER, name): text.encode("ascii") for name, text in texts.items()}
    package = BOARD_PACKAGES[target]
    model = dataclasses.replace(model, registrations=registrations(package, model))
    texts = render_generated(model, measured_arena_bytes, golden, detector)
    values = {"banner": _banner(model), "board_arena_bytes": board_arena_bytes(model, measured_arena_bytes)}
    for path in generated_templates(_SKELETON_FOLDER):
        texts[path.name.removesuffix(TEMPLATE_SUFFIX)] = _render(path, values)
    return {package.generated_path(name): text.encode("ascii") for name, text in texts.items()}


def firmware_target(folder: Path) -> str:
    """The target that `folder` was made for. Raises KwsError if it is no firmware folder."""
    present = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    target = _target_of(present)
    if target is None:
        raise KwsError(f"{folder}: is no firmware folder; give one that kws headers wrote.")
    return target


def stale_files(model: Path, firmware: Path) -> list[str]:
    """The generated files in the folder `firmware` that are missing or not those of the TFLite file `model`.

    The detector may have been given other numbers; of its files only the model that they name is compared.
    Raises KwsError if `model` or its manifest does not fit, or `firmware` is no firmware folder.
    """
    firmware_model, target = read_firmware_model(model), firmware_target(firmware)
    measured_bytes = measure_arena_bytes(firmware_model.data, source=str(model))
    golden = make_golden(firmware_model, measured_bytes)
    banner, stale = _banner(firmware_model).encode("ascii"), []
    for path, wanted in _generated(firmware_model, measured_bytes, golden, DetectorParams(), target).items():
        file = firmware / path
        found = file.read_bytes() if file.is_file() else b""
        is_fresh = found.startswith(banner) if path.name.startswith(_DETECTOR_PREFIX) else found == wanted
        if not is_fresh:
            stale.append(path.name)
    return stale


def render_generated(
    model: FirmwareModel, measured_arena_bytes: int, golden: Golden, detector: DetectorParams
) -> dict[str, str]:
    """File name -> text of each file of generated/. Equal arguments give equal text.

    Raises KwsError if `detector` has a threshold of a label that the model has not.
    """
    environment = _environment(_EXPORT_FOLDER / "templates")
    values = {
        "banner": _banner(model),
        "input_axes": "Batch, height, width, channels"
        if model.features is None
        else "Batch, mel bands, frames, channels",
        "registrations": model.registrations,
        "integer": model.input.dtype,
        **_model_values(model.data, measured_arena_bytes),
        **_tensor_values("input", model.input),
        **_tensor_values("output", model.output),
        **_label_values(model.labels),
        **_posterior_values(model.output),
        "golden_input": cgen.c_int_array(golden.input),
        "golden_output": cgen.c_int_array(golden.output),
    }
    names = environment.list_templates(extensions=[TEMPLATE_SUFFIX.removeprefix(".")])
    if model.features is None:
        names = [name for name in names if not name.startswith(_FRONT_END_PREFIXES)]
    else:
        values |= _detector_values(detector, model)
        values |= feature_values(model.features, model.input.scale) | table_values(model.features)
    return {name.removesuffix(TEMPLATE_SUFFIX): environment.get_template(name).render(values) for name in names}


def _environment(folder: Path) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _render(template: Path, values: Mapping[str, Any]) -> str:
    return _environment(template.parent).get_template(template.name).render(values)


def _write_files(folder: Path, files: Mapping[Path, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def _skeleton(target: str, has_front_end: bool) -> dict[Path, bytes]:
    """Path in the firmware folder -> contents of each file that is not generated."""
    if not all((_SKELETON_FOLDER / mark).is_file() for mark in _SKELETON_MARKS):
        raise KwsError(f"{_SKELETON_FOLDER}: the firmware skeleton is missing; install kws again.")
    if target != CMAKE_TARGET:
        files = skeleton_files(BOARD_PACKAGES[target], _SKELETON_FOLDER)
        return {place: _contents(path) for place, path in files.items()}
    if not has_front_end:
        return {Path(name): _contents(_SKELETON_FOLDER / name) for name in _WITHOUT_FRONT_END}
    paths = (path.relative_to(_SKELETON_FOLDER) for path in sorted(_SKELETON_FOLDER.rglob("*")) if path.is_file())
    others = (GENERATED_FOLDER, "build", TARGETS_FOLDER)
    return {path: _contents(_SKELETON_FOLDER / path) for path in paths if path.parts[0] not in others}


def _contents(path: Path) -> bytes:
    return _render(path, {"version": __version__}).encode() if path.suffix == TEMPLATE_SUFFIX else path.read_bytes()


def _present_files(out: Path, target: str) -> set[Path]:
    """Files that `out` already holds. Raises KwsError if it holds something other than firmware for `target`."""
    if not out.exists():
        return set()
    if not out.is_dir():
        raise KwsError(f"{out}: is a file; choose another output folder.")
    present = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    found = _target_of(present)
    if any(out.iterdir()) and found is None:
        raise KwsError(f"{out}: holds files but is no firmware folder; choose a new or an empty folder.")
    if found not in (None, target):
        raise KwsError(f"{out}: was made for target {found}; choose a new folder for {target}, or target {found}.")
    return present


def _target_of(present: set[Path]) -> str | None:
    for target, package in BOARD_PACKAGES.items():
        if package.mark in present and package.source_path("inference.cc") in present:
            return target
    return CMAKE_TARGET if present.issuperset(_SKELETON_MARKS) else None


def _banner(model: FirmwareModel) -> str:
    return "\n".join(
        (
            f"/* Generated by kws {__version__}; do not edit: run kws headers again.",
            f" * Source: {cgen.c_comment(model.name)}",
            f" * sha256: {hashlib.sha256(model.data).hexdigest()} */",
        )
    )


def _model_values(data: bytes, measured_arena_bytes: int) -> dict[str, Any]:
    return {
        "model_bytes": len(data),
        "model_data": cgen.c_byte_array(data),
        "measured_arena_bytes": measured_arena_bytes,
        "arena_margin_bytes": ARENA_MARGIN_BYTES,
        "arena_bytes": firmware_arena_bytes(measured_arena_bytes),
        "core_arena_margin_bytes": CORE_ARENA_MARGIN_BYTES,
        **{f"arena_bytes_{core}": core_arena_bytes(core, data) for core in ARENA_CORES},
        **{f"arena_least_bytes_{core}": core_arena_least_bytes(core, data) for core in ARENA_CORES},
    }


def _posterior_values(output: IntegerTensor) -> dict[str, Any]:
    fine, coarse = exp_tables(output.scale)
    return {
        "exp_entries": len(fine),
        "exp_fine": cgen.c_int_array(fine),
        "exp_coarse": cgen.c_int_array(coarse),
    }


def _detector_values(detector: DetectorParams, model: FirmwareModel) -> dict[str, Any]:
    assert model.features is not None
    return {
        "stride_ms": detector.stride_ms,
        "stride_frames": detector.stride_frames(model.features),
        "capacity": detector.capacity,
        "smoothing_ms": detector.smoothing_ms,
        "refractory_ms": detector.refractory_ms,
        "min_results": detector.min_results,
        "thresholds": detector.thresholds_q15(model.labels),
    }


def _tensor_values(which: str, tensor: IntegerTensor) -> dict[str, Any]:
    return {
        f"{which}_rank": len(tensor.shape),
        f"{which}_shape": ", ".join(map(str, tensor.shape)),
        f"{which}_elements": tensor.elements,
        f"{which}_scale": cgen.c_float(tensor.scale),
        f"{which}_zero_point": tensor.zero_point,
    }


def _label_values(labels: list[str]) -> dict[str, Any]:
    return {
        "label_identifiers": cgen.label_identifiers(labels),
        "label_strings": [cgen.c_string(label) for label in labels],
        "label_count": len(labels),
        "silence_index": _index(labels, SILENCE_LABEL),
        "unknown_index": _index(labels, UNKNOWN_LABEL),
    }


def _index(labels: list[str], label: str) -> int:
    return labels.index(label) if label in labels else -1
