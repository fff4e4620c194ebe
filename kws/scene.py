"""A long recording made of the clips of one split: keywords and other words at random times, noise under all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.audio import Pcm, Samples, to_float, to_pcm16
from kws.augmentation.noise import coloured_noise
from kws.dataset import Dataset
from kws.errors import KwsError
from kws.seeds import seeded
from kws.spotting import Word
from kws.wordcut import word_span

LONGEST_HOURS = 24.0
# Between two clips. The least lets one word leave the window before the next is in its middle.
LEAST_GAP_S, MEAN_FURTHER_GAP_S = 0.5, 1.0
KEYWORD_SHARE = 0.5
DEFAULT_SNR_DB = (5.0, 20.0)
NOISE_STRETCH_S = (10.0, 30.0)
FADE_S = 0.02
BLOCK_S = 60


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Row `row` of the data set begins at sample `at`."""

    row: int
    at: int


@dataclass(frozen=True, kw_only=True)
class Noise:
    """`samples` of recording `recording` from its sample `offset` on (and again from its start), times `gain`."""

    recording: int
    at: int
    samples: int
    offset: int
    gain: float
    snr_db: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What lies where; `blocks` makes the samples. `snr_db` are the lowest and the highest level of the split's median
    word above a stretch of noise. `negative_speech_seconds` counts the clips of other words, of which
    `distinct_negative_clips` are different ones; `noise_seconds` is how much different noise there is."""

    dataset: Dataset
    split: str
    seed: int
    snr_db: tuple[float, float]
    samples: int
    rate_hz: int
    placed: list[Placed]
    noise: list[Noise]
    recordings: list[Samples]
    words: list[Word]
    distinct_keyword_clips: int
    distinct_negative_clips: int
    negative_speech_seconds: float
    has_own_noise: bool

    @property
    def hours(self) -> float:
        return self.samples / self.rate_hz / 3600

    @property
    def noise_seconds(self) -> float:
        return sum(map(len, self.recordings)) / self.rate_hz

    def blocks(self) -> Iterator[Pcm]:
        """int16, BLOCK_S seconds at a time: an hour is never in memory at once."""
        step = BLOCK_S * self.rate_hz
        for start in range(0, self.samples, step):
            stop = min(start + step, self.samples)
            mix = np.zeros(stop - start, np.float32)
            for stretch in self.noise:
                if stretch.at < stop and stretch.at + stretch.samples > start:
                    _add(mix, stretch.at - start, self._noise_samples(stretch))
            for placed in self.placed:
                if placed.at < stop and placed.at + self.dataset.clip_samples > start:
                    clip = to_float(self.dataset.pcm[placed.row])
                    _add(mix, placed.at - start, clip * _fades(len(clip), round(FADE_S * self.rate_hz)))
            yield to_pcm16(mix)

    def _noise_samples(self, stretch: Noise) -> Samples:
        places = np.arange(stretch.offset, stretch.offset + stretch.samples)
        samples: Samples = self.recordings[stretch.recording].take(places, mode="wrap") * np.float32(stretch.gain)
        return samples * _fades(len(samples), round(FADE_S * self.rate_hz))


def make_scene(
    dataset: Dataset,
    split: str,
    rate_hz: int,
    hours: float,
    seed: int,
    snr_db: tuple[float, float] = DEFAULT_SNR_DB,
) -> Scene:
    """A clip is used again only when all of its kind were. Other data or another seed gives another scene.

    Raises KwsError if no clip of a keyword in `split` is loud enough to have a word in it.
    """
    rng = seeded("scene", split, seed)
    part, samples = dataset.splits[split], round(hours * 3600 * rate_hz)
    spans = {row: word_span(to_float(dataset.pcm[row])) for row in [*part.rows.tolist(), *part.unknown_rows.tolist()]}
    keyword_rows, other_rows = ([row for row in rows.tolist() if spans[row]] for rows in (part.rows, part.unknown_rows))
    if not keyword_rows:
        raise KwsError(
            f"{dataset.root}: no clip of a keyword in its {split} split has a word in it; record them again."
        )
    placed = _place(rng, keyword_rows, other_rows, samples, dataset.clip_samples, rate_hz)
    if not placed:
        raise KwsError(f"{hours:g} hours hold no word; give more --hours.")
    label_of = dict(zip(part.rows.tolist(), (dataset.labels[t] for t in part.targets.tolist()), strict=True))
    recordings = dataset.noise_of(split) or coloured_noise(rate_hz, seed=len(split))
    level = float(np.median([_rms(dataset.pcm[row], spans[row]) for row in keyword_rows]))
    used = [one.row for one in placed]
    return Scene(
        dataset=dataset,
        split=split,
        seed=seed,
        snr_db=snr_db,
        samples=samples,
        rate_hz=rate_hz,
        placed=placed,
        noise=_lay_noise(rng, recordings, samples, rate_hz, level, snr_db),
        recordings=recordings,
        words=[_word(one, spans[one.row], label_of.get(one.row) or _said(dataset, one.row), rate_hz) for one in placed],
        distinct_keyword_clips=len({*used} & {*keyword_rows}),
        distinct_negative_clips=len({*used} & {*other_rows}),
        negative_speech_seconds=sum(row not in label_of for row in used) * dataset.clip_samples / rate_hz,
        has_own_noise=bool(dataset.noise),
    )


def _place(
    rng: np.random.Generator,
    keyword_rows: list[int],
    other_rows: list[int],
    samples: int,
    clip_samples: int,
    rate_hz: int,
) -> list[Placed]:
    decks = [_deck(rng, keyword_rows), _deck(rng, other_rows)]
    placed: list[Placed] = []
    at = 0
    while True:
        at += round((LEAST_GAP_S + rng.exponential(MEAN_FURTHER_GAP_S)) * rate_hz)
        if at + clip_samples + round(LEAST_GAP_S * rate_hz) > samples:
            return placed
        is_keyword = rng.uniform() < KEYWORD_SHARE or not other_rows
        placed.append(Placed(row=next(decks[0 if is_keyword else 1]), at=at))
        at += clip_samples


def _deck(rng: np.random.Generator, rows: list[int]) -> Iterator[int]:
    while True:
        yield from rng.permutation(rows).tolist()


def _lay_noise(
    rng: np.random.Generator,
    recordings: Sequence[Samples],
    samples: int,
    rate_hz: int,
    level: float,
    range_db: tuple[float, float],
) -> list[Noise]:
    stretches, at, fade = [], 0, round(FADE_S * rate_hz)
    while at < samples:
        recording = int(rng.integers(len(recordings)))
        length = round(rng.uniform(*NOISE_STRETCH_S) * rate_hz)
        snr_db = float(rng.uniform(*range_db))
        rms = float(np.sqrt(np.mean(np.square(recordings[recording], dtype=np.float64))))
        stretches.append(
            Noise(
                recording=recording,
                at=at,
                samples=length,
                offset=int(rng.integers(len(recordings[recording]))),
                gain=level * 10 ** (-snr_db / 20) / rms if rms else 0.0,
                snr_db=snr_db,
            )
        )
        at += length - fade
    return stretches


def _word(placed: Placed, span: tuple[int, int] | None, label: str, rate_hz: int) -> Word:
    assert span is not None
    start_ms, end_ms = (round((placed.at + edge) * 1000 / rate_hz) for edge in span)
    return Word(label=label, start_ms=start_ms, end_ms=end_ms)


def _said(dataset: Dataset, row: int) -> str:
    return dataset.names[row].partition("/")[0]


def _rms(pcm: Pcm, span: tuple[int, int] | None) -> float:
    assert span is not None
    return float(np.sqrt(np.mean(np.square(to_float(pcm[slice(*span)]), dtype=np.float64))))


def _fades(samples: int, fade: int) -> npt.NDArray[np.float32]:
    """Up from zero over the first `fade` samples, down over the last: two stretches that overlap so add up to one."""
    rise = (np.arange(samples) + 0.5) / fade
    return np.clip(np.minimum(rise, rise[::-1]), 0, 1).astype(np.float32)


def _add(mix: Samples, at: int, samples: Samples) -> None:
    """Add `samples` to `mix` from its place `at` on; both may stick out."""
    first, last = max(at, 0), min(at + len(samples), len(mix))
    mix[first:last] += samples[first - at : last - at]
