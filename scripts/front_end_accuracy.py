"""What the C front ends cost in accuracy, float and fixed point: the test clips through each, then the int8 model.

    python -m scripts.front_end_accuracy BUILD --data DATA

BUILD is a folder of kws quantize. The first row has the features of kws.features, quantized as in kws benchmark; the
others those that the firmware's C code computes on this machine. The model runs under TensorFlow Lite Micro. Same
inputs: how many int8 values of the features are those of the first row, and how many at most one step off.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.firmware_model import FirmwareModel, read_firmware_model
from export.front_end_parity import build_front_end, c_features
from export.headers import render_firmware
from kws.audio import Pcm
from kws.dataset import load_dataset_for
from kws.errors import KwsError
from kws.features import features_of_clips
from kws.progress import note, track
from quantize.affine import StepArray
from quantize.runtimes import TflmRuntime
from scripts.markdown import table

HEADINGS = ["features", "same int8 values", "at most one step off", "accuracy", "same answer"]
KINDS = {"C, float": False, "C, fixed point": True}


def answers(runtime: TflmRuntime, values: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """The likeliest label of each clip of integer features (n, mel_bands, frames)."""
    real = runtime.input.dequantize(values.astype(runtime.input.dtype)[:, np.newaxis])
    logits: list[StepArray] = [runtime(clip[np.newaxis])[0] for clip in track(real, "int8 model", len(real))]
    return np.argmax(np.stack(logits), axis=1)


def accuracy_table(build: Path, data: Path) -> str:
    """Raises KwsError if the build has no features, the data does not fit it, or the C code cannot be built."""
    model_file = build / "model.int8.tflite"
    model = read_firmware_model(model_file)
    if model.features is None:
        raise KwsError(f"{build}: has no features, so there is no front end to judge; give the build of a checkpoint.")
    clips = load_dataset_for(model.labels, data, model.features, needed=["testing"]).evaluation_clips("testing")
    runtime = TflmRuntime(model_file)
    values = {"Python": runtime.input.quantize(features_of_clips(clips.pcm, model.features))[:, 0].astype(np.int64)}
    with tempfile.TemporaryDirectory() as name:
        values |= _c_values(model, model_file, clips.pcm, Path(name))
    wanted = answers(runtime, values["Python"])
    rows = []
    for kind, found in values.items():
        off = np.abs(found - values["Python"])
        given = answers(runtime, found)
        shares = ((off == 0).mean(), (off <= 1).mean(), (given == clips.targets).mean(), (given == wanted).mean())
        rows.append([kind, *(f"{share:.2%}" for share in shares)])
    return table(HEADINGS, rows)


def _c_values(model: FirmwareModel, model_file: Path, pcm: Pcm, folder: Path) -> dict[str, npt.NDArray[np.int64]]:
    assert model.features is not None
    render_firmware(model_file, folder / "firmware")
    found = {}
    for kind, fixed_point in KINDS.items():
        note(kind)
        program = build_front_end(folder / "firmware", folder / kind, fixed_point=fixed_point)
        found[kind] = c_features(program, pcm, model.features, model.input.dtype)[1].astype(np.int64)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder of kws quantize")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="the data set of its checkpoint")
    options = parser.parse_args()
    try:
        print(accuracy_table(options.build, options.data))
    except KwsError as error:
        print(f"front_end_accuracy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
