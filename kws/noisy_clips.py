"""Clips under background noise at stated levels: how a model fares where it is loud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from kws.audio import Pcm, Samples, fit_clip, to_float, to_pcm16
from kws.overlay import over_noise
from kws.wordcut import word_span

SNR_DB = (20.0, 10.0, 5.0, 0.0)
SEED = 0


def noisy_copies(
    pcm: Pcm, noise: Sequence[Samples], levels_db: Sequence[float] = SNR_DB
) -> Iterator[tuple[float, Pcm]]:
    """For each of `levels_db` the clips `pcm` int16 (n, clip_samples) under `noise`; nothing if all of that is silent.

    The ratio is that of `kws.overlay.over_noise`: mean power of the word, as `kws.wordcut.word_span` finds it (of the
    whole clip where it finds none), over that of the noise. `noise` are recordings at least a clip long. A clip has
    the same stretch of noise on each call and at each level, so that nothing but the level differs.
    """
    audible = [recording for recording in noise if recording.any()]
    if not audible:
        return
    clips = [to_float(clip) for clip in pcm]
    spans = [word_span(clip) or (0, len(clip)) for clip in clips]
    stretches = _stretches(audible, len(clips), pcm.shape[1])
    for level_db in levels_db:
        mixed = [
            to_pcm16(over_noise(clip, stretch, span, level_db))
            for clip, stretch, span in zip(clips, stretches, spans, strict=True)
        ]
        yield level_db, np.stack(mixed)


def _stretches(noise: Sequence[Samples], count: int, clip_samples: int) -> list[Samples]:
    """`count` stretches of a clip's length, the recordings in turn; where one is silent, the loudest there is."""
    rng = np.random.default_rng(SEED)
    stretches = []
    for index in range(count):
        recording = noise[index % len(noise)]
        offset = int(rng.integers(0, len(recording) - clip_samples + 1))
        stretch = recording[offset : offset + clip_samples]
        stretches.append(stretch if stretch.any() else fit_clip(recording, clip_samples))
    return stretches
