"""Live samples, by PortAudio (`pip install 'kws[mic]'`)."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from kws.audio import Pcm, resample_stream, to_float, to_pcm16
from kws.errors import KwsError
from kws.progress import note

# So long may a microphone say nothing before it counts as gone.
SILENT_S = 3.0
BACKLOG_S = 10
_GONE = "check that it is plugged in and that no other program holds it, then start again"


def microphone_blocks(rate_hz: int, block_samples: int) -> Generator[Pcm, None, None]:
    """int16 mono (block_samples,) or so at `rate_hz` from the default microphone, without end.

    Raises KwsError if sounddevice or PortAudio are not installed, there is no microphone, or it vanishes.
    """
    sounddevice = _load()
    blocks: queue.Queue[Pcm | None] = queue.Queue(maxsize=BACKLOG_S * rate_hz // block_samples)
    device_hz = _rate_of(sounddevice, rate_hz)
    convert = _converter(device_hz, rate_hz)
    try:
        with sounddevice.InputStream(
            samplerate=device_hz,
            blocksize=block_samples * device_hz // rate_hz,
            channels=1,
            dtype="int16",
            callback=_keeper(blocks),
            finished_callback=_ender(blocks),
        ):
            note("Listening; Ctrl-C ends it.")
            while True:
                yield convert(_next(blocks))
    except sounddevice.PortAudioError as error:
        raise KwsError(f"The microphone cannot be listened to ({_reason(error)}); {_GONE}.") from error


def _load() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise KwsError("Listening to a microphone needs sounddevice; run pip install 'kws[mic]'.") from error
    except OSError as error:
        raise KwsError(
            "Listening to a microphone needs the PortAudio library; install it (Debian, Ubuntu: libportaudio2)."
        ) from error
    return sounddevice


def _rate_of(sounddevice: Any, rate_hz: int) -> int:
    """`rate_hz` if the microphone has it, else its own."""
    try:
        device = sounddevice.query_devices(kind="input")
    except (sounddevice.PortAudioError, ValueError) as error:
        raise KwsError("This machine has no microphone; plug one in, or give --wav a recording.") from error
    try:
        sounddevice.check_input_settings(channels=1, dtype="int16", samplerate=rate_hz)
    except sounddevice.PortAudioError:
        own_hz = int(device["default_samplerate"])
        note(f"The microphone does not sample at {rate_hz} Hz, so its {own_hz} Hz are converted.")
        return own_hz
    return rate_hz


def _converter(from_hz: int, to_hz: int) -> Callable[[Pcm], Pcm]:
    if from_hz == to_hz:
        return lambda pcm: pcm
    resample = resample_stream(from_hz, to_hz)
    return lambda pcm: to_pcm16(resample(to_float(pcm), False))


def _keeper(blocks: queue.Queue[Pcm | None]) -> Callable[[Any, int, Any, Any], None]:
    """PortAudio's callback, in a thread of its own; says once that samples were lost."""
    told = False

    def keep(samples: Any, frames: int, time: Any, status: Any) -> None:
        nonlocal told
        kept = _put(blocks, np.array(samples[:, 0]))
        if not told and (status.input_overflow or not kept):
            told = True
            note("This machine is too slow: some samples were lost, so words may be missed and times be early.")

    return keep


def _ender(blocks: queue.Queue[Pcm | None]) -> Callable[[], None]:
    """PortAudio's callback when it gives no more samples; it may return nothing."""

    def end() -> None:
        _put(blocks, None)

    return end


def _put(blocks: queue.Queue[Pcm | None], block: Pcm | None) -> bool:
    with contextlib.suppress(queue.Full):
        blocks.put_nowait(block)
        return True
    return False


def _next(blocks: queue.Queue[Pcm | None]) -> Pcm:
    try:
        block = blocks.get(timeout=SILENT_S)
    except queue.Empty as error:
        raise KwsError(f"The microphone gave no samples for {SILENT_S:g} s; {_GONE}.") from error
    if block is None:
        raise KwsError(f"The microphone is gone; {_GONE}.")
    return block


def _reason(error: Exception) -> str:
    """PortAudio's own words, the first argument of its exception."""
    return str(error.args[0] if error.args else error).strip().rstrip(".")
