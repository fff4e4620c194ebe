"""What `kws prepare` does to one recording, in a process of its own: cut it, or copy it into noise and a room."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from kws.audio import Pcm, libsndfile_path, read_audio, to_pcm16
from kws.config import FeatureConfig
from kws.dataset import NOISE_STRETCH
from kws.errors import KwsError
from kws.overlay import in_room, over_noise, read_noise, read_response
from kws.wordcut import cut_word, word_span

MAX_RECORDING_S = 30
MIN_WORD_MS = 100
CLIP_SAMPLES = FeatureConfig().clip_samples
SAMPLE_RATE_HZ = FeatureConfig().sample_rate_hz


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A recording of a word, or of noise where `whole`, and the file that it is to become."""

    recording: Path
    target: Path
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class CutResult:
    """`digest` of the samples written, or the `problem` (reason, detail) for which nothing was."""

    digest: bytes = b""
    shortened: bool = False
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A clip, the room to put it into, and the noise to lay over it, from `position` 0..1 of a recording."""

    clip: Path
    target: Path
    response: Path | None
    noise: Path | None
    snr_db: float
    position: float


def cut(task: Cut) -> CutResult:
    """Write `task.target`: one second with the word in its middle, or the whole recording, at 16 kHz."""
    try:
        if not task.whole and duration_s(task.recording) > MAX_RECORDING_S:
            return _problem("too long", f"lasts more than {MAX_RECORDING_S} s; cut it into single words")
        samples = read_audio(task.recording, SAMPLE_RATE_HZ)
    except KwsError as error:
        return _problem("unreadable", str(error).removeprefix(f"{task.recording}: "))
    if task.whole:
        return CutResult(digest=_write(task.target, to_pcm16(samples)))
    span = word_span(samples)
    if span is None:
        return _problem("silent", "nothing in it is loud enough for a word; record it again")
    span_samples = span[1] - span[0]
    if span_samples * 1000 < MIN_WORD_MS * SAMPLE_RATE_HZ:
        return _problem("too short", f"what is loud in it lasts less than {MIN_WORD_MS} ms; record it again")
    digest = _write(task.target, to_pcm16(cut_word(samples, span, CLIP_SAMPLES)))
    return CutResult(digest=digest, shortened=span_samples > CLIP_SAMPLES)


def copy(task: Copy) -> None:
    """Write `task.target`; raises KwsError for noise or an impulse response that is of no use."""
    clip = read_audio(task.clip, SAMPLE_RATE_HZ)
    if task.response is not None:
        clip = in_room(clip, read_response(task.response, SAMPLE_RATE_HZ))
    if task.noise is not None:
        # The rest of each recording is kept for validation and testing, as in training itself.
        noise = read_noise(task.noise, NOISE_STRETCH["training"], len(clip), SAMPLE_RATE_HZ, task.position)
        clip = over_noise(clip, noise, word_span(clip) or (0, len(clip)), task.snr_db)
    _write(task.target, to_pcm16(clip))


def duration_s(path: Path) -> float:
    """Told from the header, so that hours of sound need not be decoded; raises KwsError if there is none."""
    import soundfile

    try:
        return float(soundfile.info(libsndfile_path(path)).duration)
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError) as error:
        raise KwsError(f"{path}: cannot be decoded as audio; remove it or save it again as WAV or FLAC.") from error


def _write(target: Path, pcm: Pcm) -> bytes:
    """Encoded in memory: a full disk is then an OSError with the file's name."""
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, pcm, SAMPLE_RATE_HZ, subtype="PCM_16", format=target.suffix[1:].upper())
    target.write_bytes(encoded.getvalue())
    return hashlib.sha256(pcm.tobytes()).digest()


def _problem(reason: str, detail: str) -> CutResult:
    return CutResult(problem=(reason, detail))
