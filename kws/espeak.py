"""Speak texts with eSpeak NG: a program of its own, run as `python -I espeak.py LIBRARY DATA_FOLDER`.

Standard input: a JSON array of objects with the fields of `Utterance`. Standard output: for each of them the number
of samples (uint32, little endian) and the samples (int16, little endian, mono, SAMPLE_RATE_HZ).

A process of its own because the library's flutter phase and filter memories outlive each utterance and no call
resets them, it changes the locale of its process, and the texts come from strangers. The same requests give the
same bytes. Only the standard library is imported, so that isolated mode (-I) suffices.
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import struct
import sys
from dataclasses import dataclass

SAMPLE_RATE_HZ = 22_050
MAX_UTTERANCE_SAMPLES = 4 * SAMPLE_RATE_HZ

# Names and values of espeak-ng/speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_EE_OK = 0

_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """`accent` is a voice file below `lang/`, `variant` one below `voices/!v/`; `pitch` and `pitch_range` 0..100."""

    text: str
    accent: str
    variant: str
    rate_wpm: int
    pitch: int
    pitch_range: int
    noise_seed: int


class Espeak:
    """The library, loaded once. Raises OSError where it or its data cannot be used."""

    def __init__(self, library_path: str, data_path: str) -> None:
        self._data_path = data_path
        self._library = ctypes.CDLL(library_path)
        self._declare()
        self._spoken = bytearray()
        self._callback = _SynthCallback(self._receive)
        rate_hz = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(data_path), _INITIALIZE_DONT_EXIT
        )
        used_path = ctypes.c_char_p()
        self._library.espeak_Info(ctypes.byref(used_path))
        if rate_hz != SAMPLE_RATE_HZ or used_path.value != os.fsencode(data_path):
            raise OSError(
                f"eSpeak NG cannot use its data folder {data_path}, which may be damaged or its path too long"
            )
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, utterance: Utterance) -> bytes:
        """int16 samples at SAMPLE_RATE_HZ in the machine's byte order, at most MAX_UTTERANCE_SAMPLES of them."""
        variant_path = os.path.join(self._data_path, "voices", "!v", utterance.variant)  # noqa: PTH118
        voice = f"{utterance.accent}+{utterance.variant}"
        # Without its file the library speaks a missing variant with the plain voice.
        if not os.path.isfile(variant_path) or self._library.espeak_SetVoiceByName(voice.encode()) != _EE_OK:  # noqa: PTH113
            raise OSError(f"eSpeak NG has no voice {voice}")
        parameters = {_RATE: utterance.rate_wpm, _VOLUME: 100, _PITCH: utterance.pitch, _RANGE: utterance.pitch_range}
        for parameter, value in parameters.items():
            self._library.espeak_SetParameter(parameter, value, 0)
        self._library.espeak_ng_SetRandSeed(utterance.noise_seed)
        self._spoken.clear()
        text = utterance.text.encode() + b"\0"
        # Plain text: neither espeakSSML nor espeakPHONEMES, so markup in a word is read aloud, never obeyed.
        self._library.espeak_Synth(text, len(text), 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        return bytes(self._spoken[: 2 * MAX_UTTERANCE_SAMPLES])

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._spoken += ctypes.string_at(samples, 2 * count)
        return int(len(self._spoken) >= 2 * MAX_UTTERANCE_SAMPLES)

    def _declare(self) -> None:
        c_int, c_uint, c_char_p, c_void_p = ctypes.c_int, ctypes.c_uint, ctypes.c_char_p, ctypes.c_void_p
        library = self._library
        library.espeak_Initialize.argtypes = [c_int, c_int, c_char_p, c_int]
        library.espeak_Info.argtypes = [ctypes.POINTER(c_char_p)]
        library.espeak_Info.restype = c_char_p
        library.espeak_SetSynthCallback.argtypes = [_SynthCallback]
        library.espeak_SetSynthCallback.restype = None
        library.espeak_SetVoiceByName.argtypes = [c_char_p]
        library.espeak_SetParameter.argtypes = [c_int, c_int, c_int]
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        library.espeak_Synth.argtypes = [c_char_p, ctypes.c_size_t, c_uint, c_int, c_uint, c_uint, c_void_p, c_void_p]


def main() -> int:
    library_path, data_path = sys.argv[1:]
    requests = json.loads(sys.stdin.buffer.read())
    try:
        espeak = Espeak(library_path, data_path)
        for request in requests:
            samples = array.array("h", espeak.say(Utterance(**request)))
            if sys.byteorder == "big":
                samples.byteswap()
            sys.stdout.buffer.write(struct.pack("<I", len(samples)) + samples.tobytes())
    except (OSError, AttributeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
