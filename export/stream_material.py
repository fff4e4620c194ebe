"""What a streaming evaluation listens to: a scene made of test clips, or a recording with its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from export.stream_posteriors import PcmFile
from kws.artifact import atomic_file
from kws.config import FeatureConfig
from kws.label_track import check_labels, read_labels, write_labels
from kws.progress import track
from kws.scene import BLOCK_S, Scene
from kws.spotting import Word
from kws.stream import recording_blocks

SCENE_AUDIO, SCENE_LABELS = "scene.wav", "scene.txt"


@dataclass(frozen=True, kw_only=True)
class Material:
    """Samples, what is said in them, and for the report where they are from (`origin`)."""

    pcm: PcmFile
    words: list[Word]
    hours: float
    negative_speech_seconds: float
    distinct_negative_clips: int
    origin: dict[str, Any]


def scene_material(scene: Scene, path: Path) -> Material:
    """`scene`, its samples at `path`."""
    blocks = track(scene.blocks(), f"Mixing the {scene.split} scene", -(-scene.samples // (BLOCK_S * scene.rate_hz)))
    return Material(
        pcm=PcmFile.write(path, blocks),
        words=scene.words,
        hours=scene.hours,
        negative_speech_seconds=scene.negative_speech_seconds,
        distinct_negative_clips=scene.distinct_negative_clips,
        origin=_origin(scene),
    )


def recording_material(
    recording: Path, labels: Path, config: FeatureConfig, keywords: Sequence[str], path: Path
) -> Material:
    """`recording` decoded to `path`. Raises KwsError if it is shorter than a window, or `labels` are not of it."""
    words = read_labels(labels)
    pcm = PcmFile.write(path, recording_blocks(recording, config))
    check_labels(labels, words, keywords, recording, pcm.samples * 1000 // config.sample_rate_hz)
    others = [word for word in words if word.label not in keywords]
    return Material(
        pcm=pcm,
        words=words,
        hours=pcm.samples / config.sample_rate_hz / 3600,
        negative_speech_seconds=sum(word.end_ms - word.start_ms for word in others) / 1000,
        distinct_negative_clips=len(others),
        origin={"recording": recording.name, "labels": labels.name},
    )


def write_scene(folder: Path, material: Material, rate_hz: int) -> None:
    """SCENE_AUDIO and SCENE_LABELS, as --recording and --labels take them."""
    with (
        atomic_file(folder / SCENE_AUDIO) as temporary,
        soundfile.SoundFile(temporary, "w", rate_hz, 1, "PCM_16", format="WAV") as file,
    ):
        step = BLOCK_S * rate_hz
        for start in range(0, material.pcm.samples, step):
            file.write(material.pcm.part(start, min(start + step, material.pcm.samples)))
    write_labels(folder / SCENE_LABELS, material.words)


def _origin(scene: Scene) -> dict[str, Any]:
    levels = [stretch.snr_db for stretch in scene.noise]
    return {
        "split": scene.split,
        "seed": scene.seed,
        "snr_db": list(scene.snr_db),
        "mean_snr_db": float(np.mean(levels)),
        "noise": "recordings" if scene.has_own_noise else "synthetic",
        "distinct_noise_seconds": scene.noise_seconds,
        "distinct_keyword_clips": scene.distinct_keyword_clips,
        "distinct_negative_clips": scene.distinct_negative_clips,
    }
