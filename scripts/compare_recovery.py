"""What each way to choose ranges and to win accuracy back does for trained checkpoints, as Markdown tables.

    python scripts/compare_recovery.py CHECKPOINT... --data DATA

Calibrates on training clips as `kws quantize` does. Judges the QDQ graph, which simulates the device, against the float
model on the validation clips, by which defaults are chosen, and on the test clips.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from export.to_onnx import to_onnx
from kws.checkpoint import Checkpoint, load_checkpoint
from kws.dataset import Dataset, Indices, load_dataset_for
from kws.errors import KwsError
from kws.features import features_of_clips
from kws.metrics import accuracy, agreement, sqnr_db
from kws.progress import track
from quantize.affine import FloatArray
from quantize.device_rounding import round_as_device
from quantize.options import QuantizeOptions
from quantize.pipeline import prepare, quantize
from quantize.stream import Stream

SPLITS = ("validation", "testing")
CLIPS_AT_ONCE = 500
PLAIN = QuantizeOptions(
    ranges="min-max", weight_ranges="min-max", equalization=False, bias_correction=False, rounding="nearest"
)
BALANCED = replace(PLAIN, equalization=True, bias_correction=True)
ADAPTIVE = replace(BALANCED, rounding="adaptive")
ROWS = {
    "none": PLAIN,
    "equalization": replace(PLAIN, equalization=True),
    "bias correction": replace(PLAIN, bias_correction=True),
    "adaptive rounding": replace(PLAIN, rounding="adaptive"),
    "percentile ranges": replace(PLAIN, ranges="percentile"),
    "entropy ranges": replace(PLAIN, ranges="entropy"),
    "MSE ranges": replace(PLAIN, ranges="mse"),
    "MSE weight ranges": replace(PLAIN, weight_ranges="mse"),
    "equalization + bias": BALANCED,
    "equalization + bias + MSE": replace(BALANCED, ranges="mse"),
    "equalization + bias + adaptive": ADAPTIVE,
    "equalization + bias + adaptive + percentile": replace(ADAPTIVE, ranges="percentile"),
    "equalization + bias + adaptive + MSE": replace(ADAPTIVE, ranges="mse"),
    "equalization + bias + adaptive + MSE + MSE weights": replace(ADAPTIVE, ranges="mse", weight_ranges="mse"),
    "bias + adaptive + MSE": replace(ADAPTIVE, ranges="mse", equalization=False),
}


@dataclass(frozen=True, eq=False)
class Judged:
    """Clips of one split: log-mel `features`, their `targets`, and what the float model answers."""

    features: FloatArray
    targets: Indices
    logits: FloatArray

    @staticmethod
    def of(split: str, dataset: Dataset, checkpoint: Checkpoint, float_model: onnx.ModelProto) -> Judged:
        clips = dataset.evaluation_clips(split)
        features = features_of_clips(clips.pcm, checkpoint.features)
        return Judged(features, clips.targets, answers(float_model, features))

    def figures(self, qdq: onnx.ModelProto) -> str:
        """Table cells: SQNR, same answer, accuracy."""
        logits = answers(round_as_device(qdq), self.features)
        same, right = agreement(self.logits, logits), accuracy(self.targets, logits.argmax(axis=1))
        return f"{sqnr_db(self.logits, logits):.2f} dB | {same:.2%} | {right:.2%}"


def answers(model: onnx.ModelProto, features: FloatArray) -> FloatArray:
    """float32 logits (n, classes)."""
    name = model.graph.output[0].name
    parts = range(0, len(features), CLIPS_AT_ONCE)
    return np.concatenate([Stream(model, features[at : at + CLIPS_AT_ONCE]).run_until(name) for at in parts])


def compare(checkpoint_path: Path, data: Path) -> None:
    """Print the table of one checkpoint."""
    checkpoint = load_checkpoint(checkpoint_path)
    dataset = load_dataset_for(checkpoint.labels, data, checkpoint.features)
    clips = dataset.calibration_clips(QuantizeOptions().calibration_clips)
    calibration = features_of_clips(clips, checkpoint.features)
    with tempfile.TemporaryDirectory() as folder:
        float_model = to_onnx(checkpoint.build(), calibration[:1].shape, Path(folder) / "model.onnx")
    judged = [Judged.of(split, dataset, checkpoint, float_model) for split in SPLITS]
    floats = " | ".join(f"| | {accuracy(part.targets, part.logits.argmax(axis=1)):.2%}" for part in judged)
    lines = []
    for name, options in track(list(ROWS.items()), checkpoint_path.parent.name, len(ROWS)):
        started = time.process_time()
        prepared = prepare(float_model, calibration, options)
        qdq = quantize(prepared, calibration, options)
        seconds = time.process_time() - started
        lines.append(f"| {name} | {' | '.join(part.figures(qdq) for part in judged)} | {seconds:.1f} |")
    print(f"\n{checkpoint_path}\n")
    print("| method | validation SQNR | same | accuracy | test SQNR | same | accuracy | CPU seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(f"| float {floats} | |", *lines, sep="\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="checkpoint.pt of kws train")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="the folder they were trained on")
    options = parser.parse_args()
    try:
        for checkpoint in options.checkpoints:
            compare(checkpoint, options.data)
    except KwsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
