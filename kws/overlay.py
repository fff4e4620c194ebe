"""A clean clip as it would sound in a room, and over noise at a stated level."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from kws.audio import Samples, fit_clip, libsndfile_path, read_audio, resample
from kws.errors import KwsError

PEAK_LIMIT = 0.99


def over_noise(speech: Samples, noise: Samples, span: tuple[int, int], snr_db: float) -> Samples:
    """`speech` and `noise`, both float32 (n,), mixed so that `speech` is `snr_db` louder than `noise`.

    The power of `speech` is its mean over `span` (first and last sample + 1 of the word), that of `noise` its mean
    over the clip. Where the mix would clip, both are made quieter.
    """
    speech_power = float(np.mean(np.square(speech[slice(*span)], dtype=np.float64)))
    noise_power = float(np.mean(np.square(noise, dtype=np.float64)))
    gain = math.sqrt(speech_power / noise_power / 10 ** (snr_db / 10))
    return _below_peak(speech + np.float32(gain) * noise)


def in_room(speech: Samples, response: Samples) -> Samples:
    """float32 (n,): `speech` convolved with the room's impulse `response` (m,), with the energy it had.

    The response counts from its largest peak, the direct sound, so that the word stays where it was.
    """
    direct = response[int(np.argmax(np.abs(response))) :].astype(np.float64)
    size = len(speech) + len(direct) - 1
    echoing = np.fft.irfft(np.fft.rfft(speech, size) * np.fft.rfft(direct, size), size)[: len(speech)]
    energy, echoing_energy = np.square(speech, dtype=np.float64).sum(), np.square(echoing).sum()
    return _below_peak((echoing * math.sqrt(energy / echoing_energy)).astype(np.float32))


def read_response(path: Path, sample_rate_hz: int) -> Samples:
    """An impulse response float32 (n,); raises KwsError if it cannot be read or is silent."""
    response = read_audio(path, sample_rate_hz)
    if not response.any():
        raise KwsError(f"{path}: holds only zeros, which is no impulse response; remove it.")
    return response


def read_noise(
    path: Path, part: tuple[float, float], clip_samples: int, sample_rate_hz: int, position: float
) -> Samples:
    """float32 (clip_samples,) of the noise recording `path`, read without the rest of it.

    `part` are the fractions of the recording between which the clip may lie, `position` 0..1 where; a recording too
    short for that is used as a whole, and repeated where it is shorter than the clip. A silent stretch is replaced by
    the loudest. Raises KwsError if the file cannot be read or holds only zeros.
    """
    import soundfile

    try:
        with soundfile.SoundFile(libsndfile_path(path)) as stream:
            needed = math.ceil(clip_samples * stream.samplerate / sample_rate_hz) + 1
            first, last = (round(fraction * stream.frames) for fraction in part)
            if last - first < needed:
                first, last = 0, stream.frames
            stream.seek(first + round(position * max(last - first - needed, 0)))
            frames = stream.read(needed, dtype="float32", always_2d=True)
            rate_hz = stream.samplerate
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError) as error:
        raise KwsError(f"{path}: cannot be decoded as audio; remove it or save it again as WAV or FLAC.") from error
    noise = resample(frames.mean(axis=1), rate_hz, sample_rate_hz)
    if not noise.any() or not np.isfinite(noise).all():
        noise = _loudest(path, clip_samples, sample_rate_hz)
    return np.resize(noise, clip_samples)


def _loudest(path: Path, clip_samples: int, sample_rate_hz: int) -> Samples:
    noise = read_audio(path, sample_rate_hz)
    if not noise.any():
        raise KwsError(f"{path}: holds only zeros, which is no noise; remove it.")
    return fit_clip(noise, min(clip_samples, len(noise)))


def _below_peak(samples: Samples) -> Samples:
    peak = float(np.abs(samples).max())
    quieter: Samples = samples * np.float32(PEAK_LIMIT / peak) if peak > PEAK_LIMIT else samples
    return quieter
