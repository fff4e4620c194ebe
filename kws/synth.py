"""The embedded default data set: words spoken by synthetic voices, in the layout of Speech Commands."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soxr

from kws import espeak
from kws.artifact import atomic_folder, check_new_folder
from kws.audio import Samples, fit_clip, to_pcm16
from kws.config import NOISE_FOLDER
from kws.errors import KwsError
from kws.seeds import seeded
from kws.voices import Voice, draw_voices, speak, utterance_of
from kws.words import check_words

SAMPLE_RATE_HZ = 16_000
CLIP_SAMPLES = 16_000
COMMAND_WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHER_WORDS = ("bed", "bird", "cat", "dog", "happy", "house", "marvin", "tree", "wow", "zero")
DEFAULT_WORDS: tuple[str, ...] = COMMAND_WORDS + OTHER_WORDS
DEFAULT_SPEAKERS = 128

SPEECH_DBFS = (-30.0, -12.0)
NOISE_FLOOR_DBFS = (-70.0, -48.0)
PEAK_LIMIT = 0.95
TRIM_BELOW_LOUDEST_DB = 35.0
TRIM_FRAME_SAMPLES = 160
MIN_SPOKEN_SAMPLES = 800

NOISE_SAMPLES = 60 * SAMPLE_RATE_HZ
NOISE_DBFS = {"hum": -26.0, "white_noise": -22.0, "pink_noise": -20.0, "babble": -22.0}
BABBLE_TALKERS = 8
_BABBLE_TEXT = (
    "after again air always animal answer around autumn basket because before better between book bread bridge brother "
    "candle carry change cheese children city clean cloud coffee color cousin different dinner doctor early evening "
    "every family finger flower follow forest friend garden gentle glass grandmother handle heavy history important "
    "island journey kitchen ladder language later letter little machine market maybe minute money morning mother "
    "mountain music neighbor never number orange other paper people picture pocket question quiet river school season "
    "second several simple sister something station story summer table together tomorrow travel under village water "
    "weather window winter without wonder yellow"
)
BABBLE_WORDS = tuple(_BABBLE_TEXT.split())
BABBLE_WORDS_PER_UTTERANCE = 6
# Enough for about half a minute; then a talker repeats, each after a time of its own.
BABBLE_UTTERANCES = 12

Progress = Callable[[int, int], None]


def synthesize(
    out: Path,
    *,
    words: Sequence[str] = DEFAULT_WORDS,
    seed: int = 0,
    speakers: int = DEFAULT_SPEAKERS,
    progress: Progress | None = None,
) -> int:
    """Write `out`/<word>/<speaker>_nohash_0.wav for each word and speaker, and `out`/_background_noise_/*.wav.

    Each clip is 16 kHz mono PCM16 of 1 s. The same seed gives the same bytes; a clip does not depend on the other
    words, nor a speaker on how many there are. `progress` is told how many clips are done and of how many.
    Returns the number of clips. Raises KwsError for a word that cannot be a folder name or is spoken as silence,
    an `out` that holds anything, or a speech synthesizer that fails; then `out` is as it was.
    """
    check_words(words)
    if speakers < 1:
        raise KwsError(f"{speakers} speakers cannot speak; ask for at least 1.")
    try:
        check_new_folder(out)
        with atomic_folder(out) as folder:
            return _write(folder, words, draw_voices(speakers, seed), seed, progress)
    except OSError as error:
        raise KwsError(f"{out}: cannot be written ({error.strerror}); choose another output folder.") from error


def _write(folder: Path, words: Sequence[str], voices: Sequence[Voice], seed: int, progress: Progress | None) -> int:
    total = len(words) * len(voices)
    done = 0
    for word in words:
        (folder / word).mkdir()
        for name, clip in _word_clips(word, voices, seed):
            _write_wav(folder / word / name, clip)
            done += 1
            if progress:
                progress(done, total)
    (folder / NOISE_FOLDER).mkdir()
    for name, noise in _background_noise(words, seed):
        _write_wav(folder / NOISE_FOLDER / f"{name}.wav", _at_level(noise, NOISE_DBFS[name]))
    return done


def _word_clips(word: str, voices: Sequence[Voice], seed: int) -> Iterator[tuple[str, Samples]]:
    rngs = [seeded("clip", seed, word, voice.speaker) for voice in voices]
    spoken = speak([utterance_of(voice, word, rng) for voice, rng in zip(voices, rngs, strict=True)], repr(word))
    for voice, rng, speech in zip(voices, rngs, spoken, strict=True):
        trimmed = _trim(_resample(speech, voice))
        if len(trimmed) < MIN_SPOKEN_SAMPLES:
            raise KwsError(f"The word {word!r} is spoken as silence; choose a word that an English voice can say.")
        yield f"{voice.speaker}_nohash_0.wav", _clip(trimmed, rng)


def _resample(speech: Samples, voice: Voice) -> Samples:
    resampled: Samples = soxr.resample(speech, espeak.SAMPLE_RATE_HZ / voice.vocal_tract, SAMPLE_RATE_HZ)
    return resampled.astype(np.float32)


def _trim(speech: Samples) -> Samples:
    """Cut off what lies before the first and after the last 10 ms that come within TRIM_BELOW_LOUDEST_DB of the
    loudest; a constant offset counts as silence."""
    frames = speech[: len(speech) // TRIM_FRAME_SAMPLES * TRIM_FRAME_SAMPLES].reshape(-1, TRIM_FRAME_SAMPLES)
    energy = frames.var(axis=1)
    if not energy.any():
        return speech[:0]
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-TRIM_BELOW_LOUDEST_DB / 10))
    return speech[loud[0] * TRIM_FRAME_SAMPLES : (loud[-1] + 1) * TRIM_FRAME_SAMPLES]


def _clip(speech: Samples, rng: np.random.Generator) -> Samples:
    """`speech` at a random level and position in 1 s of low noise; of longer speech the loudest second."""
    word = _at_level(fit_clip(speech, min(len(speech), CLIP_SAMPLES)), float(rng.uniform(*SPEECH_DBFS)))
    clip = _at_level(_colored_noise(CLIP_SAMPLES, rng.uniform(0, 2), rng), float(rng.uniform(*NOISE_FLOOR_DBFS)))
    start = int(rng.integers(0, CLIP_SAMPLES - len(word) + 1))
    clip[start : start + len(word)] += word
    return clip


def _background_noise(words: Sequence[str], seed: int) -> Iterator[tuple[str, Samples]]:
    rng = seeded("noise", seed)
    yield "hum", _mains_hum(rng)
    yield "white_noise", _colored_noise(NOISE_SAMPLES, 0, rng)
    yield "pink_noise", _colored_noise(NOISE_SAMPLES, 1, rng)
    yield "babble", _babble(words, seed)


def _mains_hum(rng: np.random.Generator) -> Samples:
    """Harmonics of 50 Hz that fall off with frequency and slowly change in level, over a little noise."""
    time_s = np.arange(NOISE_SAMPLES) / SAMPLE_RATE_HZ
    hum = 0.05 * _colored_noise(NOISE_SAMPLES, 1, rng)
    for harmonic in range(1, 21):
        phase, drift_phase = rng.uniform(0, 2 * np.pi, 2)
        drift = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.05, 0.5) * time_s + drift_phase)
        hum += rng.uniform(0.3, 1) / harmonic * drift * np.sin(2 * np.pi * 50 * harmonic * time_s + phase)
    return hum.astype(np.float32)


def _babble(words: Sequence[str], seed: int) -> Samples:
    """BABBLE_TALKERS voices of their own speaking at once, none of `words` among what they say."""
    taken = {word.casefold() for word in words}
    vocabulary = [word for word in BABBLE_WORDS if word not in taken]
    if not vocabulary:
        raise KwsError(f"The words leave none for the background voices of {NOISE_FOLDER}; name fewer.")
    talkers = [(voice, seeded("talker", seed, index)) for index, voice in enumerate(draw_voices(BABBLE_TALKERS, seed))]
    spoken = speak(
        [
            utterance_of(voice, " ".join(rng.choice(vocabulary, BABBLE_WORDS_PER_UTTERANCE)), rng)
            for voice, rng in talkers
            for _ in range(BABBLE_UTTERANCES)
        ],
        "The background voices",
    )
    babble = np.zeros(NOISE_SAMPLES, np.float32)
    for index, (voice, rng) in enumerate(talkers):
        own = spoken[index * BABBLE_UTTERANCES : (index + 1) * BABBLE_UTTERANCES]
        talk = np.resize(_resample(np.concatenate(own), voice), NOISE_SAMPLES)
        babble += _at_level(talk, float(rng.uniform(-26, -20)))
    return babble


def _colored_noise(count: int, exponent: float, rng: np.random.Generator) -> Samples:
    """`count` samples whose power falls with frequency to the power of `exponent` (0 white, 1 pink, 2 brown) above
    20 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency_hz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(spectrum * np.maximum(frequency_hz, 20.0) ** (-exponent / 2), count).astype(np.float32)


def _at_level(samples: Samples, level_dbfs: float) -> Samples:
    """Scale to `level_dbfs` (rms), or to a peak of PEAK_LIMIT where that is quieter."""
    gain = 10 ** (level_dbfs / 20) / np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    scaled: Samples = (samples * min(gain, PEAK_LIMIT / np.abs(samples).max())).astype(np.float32)
    return scaled


def _write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(SAMPLE_RATE_HZ)
        stream.writeframes(to_pcm16(samples).astype("<i2").tobytes())
