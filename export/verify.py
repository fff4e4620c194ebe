"""A build proven anew: its files against its manifest, then every arrow from the checkpoint to the C front end."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.arrows import Arrows
from export.built import model_files, read_built
from export.firmware_model import FirmwareModel
from export.from_checkpoint import ORIGIN, manifest_fields, torch_answer
from export.front_end_parity import ARROW, FeaturesOfClips, build_front_end, check_fixed_point, check_front_end
from export.headers import CMAKE_TARGET, firmware_target, render_firmware, stale_files
from export.verify_inputs import VerifyInputs, array_inputs, clip_inputs
from kws.artifact import MANIFEST_NAME, damage, make_folder, read_manifest, tool_versions, write_json
from kws.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint
from kws.config import FeatureConfig
from kws.errors import KwsError
from kws.terminal import visible
from quantize.affine import Affine
from quantize.compare import Check, at_most, failed
from quantize.reference import reference_process
from quantize.runtimes import OnnxRuntime


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """`data` or `inputs` are real inputs, by default they are made; `firmware` is held against the build, too."""

    clips: int
    data: Path | None = None
    inputs: Path | None = None
    firmware: Path | None = None
    front_end: bool = True


@dataclass
class Verification:
    """What was found so far; `figures` are those without a tolerance. Each line is printed as it comes."""

    checks: list[Check] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    not_run: list[str] = field(default_factory=list)

    def check(self, arrow: str, run: Callable[[], list[Check]]) -> None:
        """Run one arrow; one that cannot be run has failed, and the others go on."""
        try:
            checks = run()
        except KwsError as error:
            checks = [failed(arrow, str(error))]
        for check in checks:
            print(f"{'ok' if check.passed else 'FAILED':<8}{visible(check.sentence)}", flush=True)
        self.checks += checks

    def inform(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            print(f"{'info':<8}{name} is {value:.6g}.", flush=True)
        self.figures.update(figures)

    def skip(self, arrow: str, reason: str) -> None:
        print(f"{'not run':<8}{arrow}: {reason}.", flush=True)
        self.not_run.append(arrow)

    @property
    def failures(self) -> list[str]:
        """The arrows that failed, each once."""
        return list(dict.fromkeys(check.name.partition(":")[0] for check in self.checks if not check.passed))


def verify(build: Path, options: VerifyOptions, out: Path | None = None) -> Path | None:
    """Run every arrow of the folder `build` and print a line for each figure; with `out`, write them there as JSON.

    Returns `out`. Raises KwsError if a file is not what the manifest says, and after all arrows were run (and `out` was
    written) if one of them failed.
    """
    if out is not None:
        make_folder(out.parent)
    manifest = _read_undamaged(build)
    made, installed = _versions(manifest), tool_versions()
    print(_versions_line(made, installed))
    inputs, found = _run_arrows(build, manifest, options)
    if out is not None:
        write_json(
            out,
            {
                "passed": not found.failures,
                "inputs": {"count": len(inputs.features), "origin": inputs.origin},
                "versions": {"made": made, "verified": installed},
                "checks": [_as_json(dataclasses.asdict(check)) for check in found.checks],
                "figures": _as_json(found.figures),
                "not_run": found.not_run,
            },
        )
    if found.failures:
        raise KwsError(
            f"{build}: cannot be trusted, for these failed: {', '.join(found.failures)}; the lines above say what was "
            "found and what was wanted."
        )
    return out


def _read_undamaged(build: Path) -> dict[str, Any]:
    manifest = read_manifest(build, verify=[])
    needed = [*model_files(build, manifest).all, *([CHECKPOINT_NAME] if "features" in manifest else [])]
    if found := damage(build, manifest, needed):
        raise KwsError(f"{build}: {', '.join(found)}; run kws quantize again, into a new folder.")
    print(f"{len(manifest['files'])} files are what {MANIFEST_NAME} says.")
    return manifest


def _versions(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Those that the build was made with; {} if the manifest does not say."""
    versions = manifest.get("versions")
    return {name: visible(str(version)) for name, version in versions.items()} if isinstance(versions, dict) else {}


def _versions_line(made: Mapping[str, str], installed: Mapping[str, str]) -> str:
    others = [name for name, version in installed.items() if made.get(name) != version]
    if not others:
        return f"Made and verified with {', '.join(f'{name} {version}' for name, version in installed.items())}."
    then = ", ".join(f"{name} {made.get(name, '(unknown)')}" for name in others)
    now = ", ".join(f"{name} {installed[name]}" for name in others)
    return f"Made with {then}, verified with {now}; all else is of the same version."


def _run_arrows(build: Path, manifest: Mapping[str, Any], options: VerifyOptions) -> tuple[VerifyInputs, Verification]:
    built = read_built(build)
    model, found, paths = built.model, Verification(), built.files.paths(build)
    with reference_process() as reference:
        inputs = _inputs(build, paths.float_onnx, model, options)
        print(f"Running it on {len(inputs.features)} {inputs.origin}.", flush=True)
        arrows = Arrows(paths, inputs.features, reference)
        if model.features is not None:
            _check_checkpoint(found, arrows, build, manifest, model.features)
        else:
            print("It came from an ONNX model: there is no checkpoint and no front end to hold it against.")
        found.check("float ONNX -> rewritten ONNX", arrows.rewrite)
        found.check("rewritten ONNX -> QDQ ONNX", arrows.quantization)
        found.check("QDQ ONNX -> TFLM", arrows.to_device)
        found.check("TFLite reference -> TFLM", arrows.kernels)
        if not found.failures:
            found.inform(arrows.figures())
    _check_front_end(found, paths.tflite, model, inputs, options)
    if options.firmware is not None:
        firmware = options.firmware
        found.check("TFLite -> firmware", lambda: _check_firmware(paths.tflite, firmware))
    return inputs, found


def _inputs(build: Path, float_onnx: Path, model: FirmwareModel, options: VerifyOptions) -> VerifyInputs:
    if model.features is None:
        if options.data is not None:
            raise KwsError(f"{build}: came from an ONNX model and has no features; give --inputs, not --data.")
        return array_inputs(model, OnnxRuntime(float_onnx).clip_shape, options.inputs, options.clips)
    if options.inputs is not None:
        raise KwsError(f"{build}: came from a checkpoint and hears sound; give --data, not --inputs.")
    return clip_inputs(model, model.features, options.data, options.clips)


def _check_checkpoint(
    found: Verification, arrows: Arrows, build: Path, manifest: Mapping[str, Any], config: FeatureConfig
) -> None:
    path = build / CHECKPOINT_NAME

    def export() -> list[Check]:
        checkpoint = load_checkpoint(path)
        if checkpoint.features != config:
            raise KwsError(f"{path}: hears other features than {MANIFEST_NAME} says; run kws quantize again.")
        return arrows.export(torch_answer(checkpoint.build()), ORIGIN)

    found.check("checkpoint -> manifest", lambda: _check_manifest(load_checkpoint(path), path, manifest))
    found.check(f"{ORIGIN} -> float ONNX", export)


def _check_manifest(checkpoint: Checkpoint, path: Path, manifest: Mapping[str, Any]) -> list[Check]:
    wanted = manifest_fields(checkpoint, path)
    others = [name for name in wanted if name != "source" and manifest.get(name) != wanted[name]]
    source = manifest.get("source")
    if not isinstance(source, dict) or source.get("sha256") != wanted["source"]["sha256"]:
        others.append("source")
    return [at_most("checkpoint -> manifest", _counted("fields that differ", others), len(others), 0)]


def _check_front_end(
    found: Verification, tflite: Path, model: FirmwareModel, inputs: VerifyInputs, options: VerifyOptions
) -> None:
    config = model.features
    if config is None or inputs.pcm is None:
        return
    if not options.front_end:
        found.skip(ARROW, "left out, as --without-front-end says")
        return
    log_mel = inputs.features[:, 0]
    affine = Affine(model.input.scale, model.input.zero_point, dtype=model.input.dtype)
    python = FeaturesOfClips(pcm=inputs.pcm, log_mel=log_mel, integers=affine.quantize(log_mel))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = options.firmware if options.firmware and firmware_target(options.firmware) == CMAKE_TARGET else None
        firmware = given or folder / "firmware"

        def program(kind: str, *, fixed_point: bool) -> Path:
            if not firmware.exists():
                render_firmware(tflite, firmware)
            return build_front_end(firmware, folder / kind, fixed_point=fixed_point)

        def in_float() -> list[Check]:
            return check_front_end(python, program("float", fixed_point=False), config)

        def in_fixed_point() -> list[Check]:
            return check_fixed_point(python, program("fixed", fixed_point=True), config)

        found.check(f"{ARROW}, float", in_float)
        if python.dtype == "int8":
            found.check(f"{ARROW}, fixed point", in_fixed_point)
        else:
            found.skip(f"{ARROW}, fixed point", "it serves int8 models")


def _check_firmware(tflite: Path, firmware: Path) -> list[Check]:
    stale = stale_files(tflite, firmware)
    return [at_most("TFLite -> firmware", _counted("generated files that are not of this model", stale), len(stale), 0)]


def _counted(what: str, names: list[str]) -> str:
    named = f" ({', '.join(names)})" if names else ""
    return f"number of {what}{named}"


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
