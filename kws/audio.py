"""Files -> samples: the one place that reads audio."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError

AUDIO_SUFFIXES = (".wav", ".flac")
PCM16_FULL_SCALE = 32768.0

Samples = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]


def read_audio(path: Path, sample_rate_hz: int) -> Samples:
    """Read a WAV, FLAC or other file that libsndfile knows as float32 mono (n,) at `sample_rate_hz`.

    Full scale is -1..1; channels are averaged.

    Raises KwsError if the file cannot be decoded, is empty, or holds NaN or infinity.
    """
    import soundfile

    try:
        frames, rate_hz = soundfile.read(libsndfile_path(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError) as error:
        raise KwsError(f"{path}: cannot be decoded as audio; remove it or save it again as WAV or FLAC.") from error
    if len(frames) == 0:
        raise KwsError(f"{path}: holds no samples; remove it or record it again.")
    if not np.isfinite(frames).all():
        raise KwsError(f"{path}: holds NaN or infinite samples; remove it or save it again.")
    mono = resample(frames.mean(axis=1), rate_hz, sample_rate_hz)
    if len(mono) == 0:
        raise KwsError(f"{path}: too short to resample to {sample_rate_hz} Hz; remove it or record it again.")
    return mono


def read_audio_blocks(path: Path, sample_rate_hz: int, block_seconds: int = 60) -> Iterator[Samples]:
    """What `read_audio` reads, in blocks of about `block_seconds`, so that hours of it need little memory.

    Raises KwsError as `read_audio` does, some of it only when the bad block is reached.
    """
    import soundfile

    try:
        with soundfile.SoundFile(libsndfile_path(path)) as file:
            resample_block, found = resample_stream(file.samplerate, sample_rate_hz), 0
            while len(frames := file.read(block_seconds * file.samplerate, dtype="float32", always_2d=True)):
                if not np.isfinite(frames).all():
                    raise KwsError(f"{path}: holds NaN or infinite samples; remove it or save it again.")
                found += len(frames)
                yield resample_block(frames.mean(axis=1), False)
            if found == 0:
                raise KwsError(f"{path}: holds no samples; remove it or record it again.")
            yield resample_block(np.zeros(0, np.float32), True)
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError) as error:
        raise KwsError(f"{path}: cannot be decoded as audio; remove it or save it again as WAV or FLAC.") from error


def audio_seconds(path: Path) -> float:
    """How long the file says that it is. Raises KwsError if it is no audio."""
    import soundfile

    try:
        return float(soundfile.info(libsndfile_path(path)).duration)
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError) as error:
        raise KwsError(f"{path}: cannot be decoded as audio; remove it or save it again as WAV or FLAC.") from error


def libsndfile_path(path: Path) -> bytes | str:
    """`path` as soundfile takes it, also where it holds bytes that are no UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """float32 (n,) at `from_hz` -> float32 at `to_hz`."""
    if from_hz == to_hz:
        return samples
    import soxr

    resampled: Samples = soxr.resample(samples, from_hz, to_hz).astype(np.float32)
    return resampled


def resample_stream(from_hz: int, to_hz: int) -> Callable[[Samples, bool], Samples]:
    """`resample` for samples in blocks, of which the last is marked; some come out later than they went in."""
    if from_hz == to_hz:
        return lambda samples, last: samples
    import soxr

    stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")
    return lambda samples, last: np.asarray(stream.resample_chunk(samples, last=last), np.float32)


def fit_clip(samples: Samples, clip_samples: int) -> Samples:
    """Pad at the end with zeros, or crop to the loudest stretch (largest energy), to exactly `clip_samples`."""
    if len(samples) <= clip_samples:
        return np.pad(samples, (0, clip_samples - len(samples)))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    start = int(np.argmax(energy[clip_samples:] - energy[:-clip_samples]))
    return samples[start : start + clip_samples]


def to_pcm16(samples: Samples) -> Pcm:
    """float32 in -1..1 -> int16, as a 16-bit microphone would give it; louder samples clip."""
    pcm: Pcm = np.clip(np.rint(samples * PCM16_FULL_SCALE), -32768, 32767).astype(np.int16)
    return pcm


def to_float(pcm: Pcm) -> Samples:
    """int16 -> float32 in -1..1."""
    samples: Samples = pcm.astype(np.float32) / np.float32(PCM16_FULL_SCALE)
    return samples
