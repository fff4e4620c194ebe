"""compare_converters.py BUILD DATA VENV: the float model of BUILD through kws and through onnx2tf, side by side.

Both get the same float ONNX file and the same calibration clips, both int8 models answer the test clips of DATA under
TFLM. onnx2tf (https://github.com/PINTO0309/onnx2tf), the usual way from ONNX to TensorFlow Lite, lives in VENV, which
is made on the first run from onnx2tf_requirements.txt: its packages do not go together with those of kws.
Prints a table in Markdown. Exit code 1 and one sentence if something fails.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.arena import measure_arena_bytes
from export.arena_32_bit import arena_on
from export.build import FLOAT_ONNX, ModelFiles
from export.cost_model import estimate_ops, total
from export.tflite_reader import parse_tflite, read_tflite_bytes
from kws.artifact import read_manifest
from kws.config import FeatureConfig, from_dict
from kws.dataset import load_dataset_for
from kws.errors import KwsError
from kws.features import features_of_clips
from kws.metrics import Indices, accuracy, agreement, sqnr_db
from kws.progress import note
from quantize.affine import FloatArray
from quantize.calibration import input_name_and_shape
from quantize.given_model import read_onnx
from quantize.runtimes import OnnxRuntime, TflmRuntime

REQUIREMENTS = Path(__file__).with_name("onnx2tf_requirements.txt")
VERSION = REQUIREMENTS.read_text(encoding="utf-8").split()[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """float32 log-mel (n, 1, mel_bands, frames): `calibration` of the training split, `test` with its `targets`."""

    calibration: FloatArray
    test: FloatArray
    targets: Indices


def read_clips(build: Path, data: Path) -> Clips:
    """The very clips that the build was calibrated on, and the test clips that kws benchmark judges it on."""
    manifest = read_manifest(build, verify=[FLOAT_ONNX])
    if "features" not in manifest:
        raise KwsError(f"{build}: came from an ONNX model and has no features; give the build of a checkpoint.")
    config = from_dict(FeatureConfig, manifest["features"], str(build))
    dataset = load_dataset_for(manifest["labels"], data, config)
    test = dataset.evaluation_clips("testing")
    return Clips(
        calibration=features_of_clips(dataset.calibration_clips(manifest["calibration"]["clips"]), config),
        test=features_of_clips(test.pcm, config),
        targets=test.targets,
    )


def onnx2tf_python(venv: Path) -> Path:
    """The Python of `venv`, made and filled first unless it has the wanted version of onnx2tf."""
    python = venv / "bin" / "python"
    wanted = "import importlib.metadata as m, sys; sys.exit('onnx2tf==' + m.version('onnx2tf') != sys.argv[1])"
    if python.exists() and subprocess.run([python, "-c", wanted, VERSION], capture_output=True).returncode == 0:
        return python
    note(f"Installing {VERSION} and what it needs into {venv} (2.6 GB, a minute the first time).")
    run([sys.executable, "-m", "venv", venv], f"Making {venv}", "install python3-venv, or move what is in its way")
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS]
    run(install, f"Installing {VERSION}", "use Python 3.10 to 3.12 and a network that reaches its packages")
    return python


def run(command: Sequence[str | Path], what: str, remedy: str) -> float:
    """The seconds that `command` took. Raises KwsError with `what` it did, its last line and `remedy` if it fails."""
    started = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise KwsError(f"{what} failed ({last.rstrip('.')}); {remedy}.")
    return time.perf_counter() - started


def convert_with_kws(onnx_path: Path, calibration: FloatArray, out: Path) -> tuple[Path, float]:
    """The int8 model and the seconds that the command took, its proofs included."""
    inputs = out / "calibration.npy"
    np.save(inputs, calibration)
    command: list[str | Path] = [sys.executable, "-m", "kws.cli", "quantize", onnx_path, "--calibration", inputs]
    command += ["--calibration-clips", str(len(calibration)), "--out", out / "kws"]
    return out / "kws" / ModelFiles("int8").tflite, run(command, f"{onnx_path}: kws quantize", "make the build anew")


def convert_with_onnx2tf(python: Path, onnx_path: Path, calibration: FloatArray, out: Path) -> tuple[Path, float]:
    """The same of onnx2tf with its defaults: full int8, weights per channel. It also writes five other forms."""
    inputs = out / "calibration_nhwc.npy"
    np.save(inputs, np.moveaxis(calibration, 1, -1))
    # onnx2tf overwrites the file that it is given with a simplified model.
    copy = Path(shutil.copyfile(onnx_path, out / "copy.onnx"))
    name, _ = input_name_and_shape(read_onnx(copy).model)
    command: list[str | Path] = [python, "-m", "onnx2tf", "-n", "-i", copy, "-o", out / "onnx2tf", "-oiqt"]
    seconds = run([*command, "-cind", name, inputs, "0", "1"], f"{onnx_path}: {VERSION}", "try another version of it")
    found = out / "onnx2tf" / "copy_full_integer_quant.tflite"
    if not found.is_file():
        raise KwsError(f"{onnx_path}: {VERSION} wrote no full int8 model of it; try another version of onnx2tf.")
    return found, seconds


def describe(tflite: Path, seconds: float, float_logits: FloatArray, clips: Clips) -> dict[str, str]:
    """The rows of the table, by name."""
    content = read_tflite_bytes(tflite)
    facts = parse_tflite(content, str(tflite))
    device = TflmRuntime(content)
    logits = device.output.dequantize(device(clips.test))
    estimates = estimate_ops(facts)
    summed = total(estimates)
    on_m4 = [(part.instructions["cortex_m4"], part.is_extrapolated) for part in estimates if part.instructions]
    beyond = sum(count for count, is_extrapolated in on_m4 if is_extrapolated) / sum(count for count, _ in on_m4)
    return {
        "accuracy, float": f"{accuracy(clips.targets, float_logits.argmax(axis=1)):.2%}",
        "accuracy, int8": f"{accuracy(clips.targets, logits.argmax(axis=1)):.2%}",
        "same answer as float": f"{agreement(float_logits, logits):.2%}",
        "logit SQNR": f"{sqnr_db(float_logits, logits):.1f} dB",
        "`.tflite`, bytes": f"{len(content):,}",
        "arena on a 64-bit host, bytes": f"{measure_arena_bytes(content, str(tflite)):,}",
        "arena on Cortex-M4, bytes (computed)": f"{arena_on('cortex_m4', facts).needed:,}",
        "arena on Cortex-M55, bytes (computed)": f"{arena_on('cortex_m55', facts).needed:,}",
        "instructions, Cortex-M4 (estimated)": f"{summed.instructions['cortex_m4'] / 1e6:.1f} M",
        "instructions, Cortex-M55 (estimated)": f"{summed.instructions['cortex_m55'] / 1e6:.1f} M",
        "of them outside the measured shapes, Cortex-M4": f"{beyond:.1%}",
        "ops, of them without an estimate": f"{len(facts.operators)}, {summed.unmeasured_ops}",
        "conversion, seconds": f"{seconds:.0f}",
    }


def markdown(columns: dict[str, dict[str, str]], title: str) -> str:
    """`columns` by heading, each with the same rows."""
    rows = [[title, *columns], ["---"] * (1 + len(columns))]
    rows += [[name, *(column[name] for column in columns.values())] for name in next(iter(columns.values()))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def compare(build: Path, data: Path, venv: Path) -> str:
    clips = read_clips(build, data)
    python = onnx2tf_python(venv)
    onnx_path = build / FLOAT_ONNX
    float_logits = OnnxRuntime(onnx_path)(clips.test)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        note(f"Converting {onnx_path} in both ways, on {len(clips.calibration)} calibration clips.")
        converted = {
            "kws": convert_with_kws(onnx_path, clips.calibration, out),
            VERSION.replace("==", " "): convert_with_onnx2tf(python, onnx_path, clips.calibration, out),
        }
        note(f"Running both on {len(clips.test)} test clips.")
        columns = {name: describe(*found, float_logits, clips) for name, found in converted.items()}
    return markdown(columns, f"{len(clips.test)} test clips")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: compare_converters.py BUILD DATA VENV")
    try:
        print(compare(*map(Path, sys.argv[1:])))
    except KwsError as error:
        sys.exit(f"Error: {error}")
