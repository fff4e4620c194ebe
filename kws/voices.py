"""The synthetic speakers of `kws synth`, and their speech."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws import espeak
from kws.audio import Samples, to_float
from kws.errors import KwsError
from kws.seeds import seeded

# A single worker speaks a few hundred utterances in about a second.
WORKER_TIMEOUT_S = 120
REINSTALL = "reinstall the Python package espeakng-loader (0.2.4 or newer)"

ACCENTS = (
    "gmw/en-US",
    "gmw/en",
    "gmw/en-GB-scotland",
    "gmw/en-GB-x-rp",
    "gmw/en-GB-x-gbclan",
    "gmw/en-GB-x-gbcwmd",
    "gmw/en-US-nyc",
    "gmw/en-029",
)

# eSpeak NG's voice variants that speak twenty English words (en-US, default rate and pitch) like a person: median
# duration 0.36 to 0.50 s, level at least -26 dBFS rms, at least 70 % of the frames voiced (normalised
# autocorrelation > 0.6), pitch 70 to 260 Hz and moving by 10 to 120 Hz, spectral centroid at least 450 Hz. That
# drops whispers, croaks, robots, monotone, muffled and hasty voices. Low voices lie below 150 Hz.
_LOW_VARIANT_LIST = (
    "Andy,Denis,Diogo,Gene,Gene2,Jacky,Lee,Mario,Michael,Mike,Mr serious,Nguyen,Reed,Tweaky,adam,benjamin,boris,ed,"
    "edward,edward2,fast,gustave,iven,iven2,iven3,john,kaukovalta,klatt3,klatt4,klatt5,klatt6,m1,m2,m3,m4,m5,m6,m7,"
    "marcelo,max,michel,miguel,mike2,norbert,paul,quincy,robert,sandro,travis,victor"
)
LOW_VARIANTS = tuple(_LOW_VARIANT_LIST.split(","))
HIGH_VARIANTS = ("Alicia", "aunty", "belinda", "f1", "f2", "f3", "f4", "f5", "linda")


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One speaker. `pitch` and `pitch_range` are eSpeak's 0..100; `vocal_tract` stretches the waveform, so that 1.1
    lowers formants and pitch by a tenth and speaks as much slower."""

    accent: str
    variant: str
    rate_wpm: int
    pitch: int
    pitch_range: int
    vocal_tract: float

    @property
    def speaker(self) -> str:
        """8 hexadecimal digits that stand for these parameters."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self)).encode()).hexdigest()[:8]


def draw_voices(count: int, seed: int) -> list[Voice]:
    """`count` voices with different speaker ids, low and high in turn; a larger count begins with the same ones."""
    shuffle = seeded("variants", seed)
    groups = [shuffle.permutation(LOW_VARIANTS).tolist(), shuffle.permutation(HIGH_VARIANTS).tolist()]
    voices: dict[str, Voice] = {}
    index = 0
    while len(voices) < count:
        variants = groups[index % 2]
        rng = seeded("voice", seed, index)
        voice = Voice(
            accent=ACCENTS[rng.integers(len(ACCENTS))],
            variant=variants[index // 2 % len(variants)],
            rate_wpm=int(rng.integers(95, 171)),
            pitch=int(rng.integers(25, 76)),
            pitch_range=int(rng.integers(30, 76)),
            vocal_tract=round(float(rng.uniform(0.88, 1.14)), 3),
        )
        voices.setdefault(voice.speaker, voice)
        index += 1
    return list(voices.values())


def utterance_of(voice: Voice, text: str, rng: np.random.Generator) -> espeak.Utterance:
    """`voice` speaking `text` once: rate within 6 %, pitch within 3 points of its own."""
    return espeak.Utterance(
        text=text,
        accent=voice.accent,
        variant=voice.variant,
        rate_wpm=round(voice.rate_wpm * float(rng.uniform(0.94, 1.06))),
        pitch=voice.pitch + int(rng.integers(-3, 4)),
        pitch_range=voice.pitch_range,
        noise_seed=int(rng.integers(1, 2**31 - 1)),
    )


def speak(utterances: Sequence[espeak.Utterance], subject: str) -> list[Samples]:
    """The speech of each utterance: float32 (n,) in -1..1 at espeak.SAMPLE_RATE_HZ, at most 4 s, maybe empty.

    The same list gives the same samples. Raises KwsError, which begins with `subject`, if eSpeak NG cannot be
    loaded on this machine or fails.
    """
    request = json.dumps([dataclasses.asdict(utterance) for utterance in utterances])
    command = [sys.executable, "-I", str(Path(espeak.__file__)), *_library_and_data()]
    try:
        done = subprocess.run(command, input=request.encode(), capture_output=True, timeout=WORKER_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise KwsError(f"{subject}: eSpeak NG did not finish within {WORKER_TIMEOUT_S} s; try another word.") from error
    except OSError as error:
        raise KwsError(f"{subject}: Python cannot be started to speak it ({error.strerror}); try again.") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise KwsError(f"{subject}: speech synthesis failed ({reason[0]}); {REINSTALL} or try another word.")
    spoken = _unpack(done.stdout)
    if len(spoken) != len(utterances):
        raise KwsError(f"{subject}: speech synthesis stopped halfway; {REINSTALL}.")
    return spoken


def _library_and_data() -> tuple[str, str]:
    try:
        import espeakng_loader

        return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    except (ImportError, RuntimeError) as error:
        raise KwsError(f"eSpeak NG is not installed ({error}); {REINSTALL}.") from error


def _unpack(reply: bytes) -> list[Samples]:
    spoken = []
    offset = 0
    while offset + 4 <= len(reply):
        count = int.from_bytes(reply[offset : offset + 4], "little")
        offset += 4
        if offset + 2 * count > len(reply):
            break
        pcm: npt.NDArray[np.int16] = np.frombuffer(reply, "<i2", count, offset).astype(np.int16)
        spoken.append(to_float(pcm))
        offset += 2 * count
    return spoken
