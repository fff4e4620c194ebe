"""A checkpoint of `kws train` and its data set -> a build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.build import PROOF_CLIPS, Source, build
from export.to_onnx import to_onnx
from kws.artifact import make_folder, sha256_file
from kws.audio import Pcm
from kws.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint
from kws.config import to_dict
from kws.dataset import Dataset, load_dataset_for
from kws.features import features_of_clips
from kws.model import BCResNet, count_macs, parameter_count
from kws.pretrained.calibration import calibration_of
from kws.training.log import LOG_NAME
from quantize.affine import FloatArray
from quantize.options import QuantizeOptions

ORIGIN = "torch"


def build_checkpoint(checkpoint_path: Path, data: Path | None, out: Path, options: QuantizeOptions) -> Path:
    """`export.build.build` of a checkpoint: ranges come from clips of the training split, proofs from `proof_clips`.

    Without `data` both come from the clips that a pretrained model brings along.

    Raises KwsError, leaving `out` as it was, if an input cannot be used or an arrow is past its tolerance.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    make_folder(out)
    if data is None:
        calibration = calibration_of(checkpoint_path, options.calibration_clips)
        proof = calibration_of(checkpoint_path, PROOF_CLIPS)
    else:
        dataset = load_dataset_for(checkpoint.labels, data, checkpoint.features)
        calibration = features_of_clips(dataset.calibration_clips(options.calibration_clips), checkpoint.features)
        proof = features_of_clips(proof_clips(dataset, PROOF_CLIPS), checkpoint.features)
    source = checkpoint_source(checkpoint, checkpoint_path, calibration, proof)
    return build(source, out, options)


def checkpoint_source(
    checkpoint: Checkpoint, checkpoint_path: Path, calibration: FloatArray, proof: FloatArray
) -> Source:
    """`calibration` and `proof` are log-mel (n, 1, mel_bands, frames)."""
    network = checkpoint.build()
    return Source(
        origin=ORIGIN,
        answer=torch_answer(network),
        export=lambda path: to_onnx(network, calibration[:1].shape, path),
        calibration=calibration,
        proof=proof,
        fields=manifest_fields(checkpoint, checkpoint_path),
        files=_kept_files(checkpoint_path),
    )


def torch_answer(network: BCResNet) -> Callable[[FloatArray], FloatArray]:
    """Log-mel (n, 1, mel_bands, frames) -> logits (n, classes)."""

    def answer(features: FloatArray) -> FloatArray:
        with torch.inference_mode():
            logits: FloatArray = network(torch.from_numpy(features)).numpy()
        return logits

    return answer


def proof_clips(dataset: Dataset, count: int) -> Pcm:
    """int16 (n, clip_samples): `count` validation clips, evenly spread over the split; where there are fewer, training
    clips make up the number as far as they go."""
    pcm = dataset.evaluation_clips("validation").pcm
    rows = np.linspace(0, len(pcm) - 1, min(count, len(pcm))).round().astype(np.int64)
    clips: Pcm = pcm[rows]
    if len(clips) < count:
        clips = np.concatenate([clips, dataset.calibration_clips(count - len(clips))])
    return clips


def _kept_files(checkpoint_path: Path) -> dict[str, Path]:
    """The weights, and what training logged beside them: a build can then be judged and proven anew by itself."""
    log = checkpoint_path.with_name(LOG_NAME)
    return {CHECKPOINT_NAME: checkpoint_path} | ({LOG_NAME: log} if log.is_file() else {})


def manifest_fields(checkpoint: Checkpoint, checkpoint_path: Path) -> dict[str, Any]:
    """What a manifest says of the checkpoint of its build."""
    network, features = checkpoint.build(), checkpoint.features
    return {
        "labels": checkpoint.labels,
        "features": to_dict(features),
        "model": to_dict(checkpoint.model)
        | {"params": parameter_count(network), "macs": count_macs(network, features.frames, features.mel_bands)},
        "source": {"checkpoint": checkpoint_path.name, "sha256": sha256_file(checkpoint_path)},
    }
