"""A long recording through a window: what each window holds, when it ends, and the events that come of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from kws.config import FeatureConfig, features_with_hop
from kws.detector import DetectorParams, posteriors_of_probabilities
from kws.errors import KwsError
from kws.features import features_of_clips
from kws.stream import WindowStream, recording_blocks, stream_events, stream_windows

RATE_HZ = 16_000
LABELS = ["_silence_", "_unknown_", "beep"]


def recording(seconds: float, beep_at_s: float) -> npt.NDArray[np.int16]:
    """Soft noise with half a second of a loud tone."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    beep = 0.5 * np.sin(2 * np.pi * 1000 * time_s) * (abs(time_s - beep_at_s) < 0.25)
    noise = np.random.default_rng(0).normal(0, 1e-3, len(time_s))
    return np.round((beep + noise) * 32767).astype(np.int16)


@pytest.mark.parametrize("hop_ms", [10, 20])
@pytest.mark.parametrize("stride_frames", [1, 3, 10])
def test_a_window_holds_what_its_samples_alone_give(hop_ms: int, stride_frames: int) -> None:
    config = features_with_hop(hop_ms)
    pcm = recording(1.7, 1.2)
    times_ms, windows = stream_windows(pcm, config, stride_frames)
    length = config.window_samples + (config.frames - 1) * config.hop_samples
    stride = stride_frames * config.hop_samples
    assert windows.shape == (1 + (len(pcm) - length) // stride, 1, 40, config.frames)
    for index, (time_ms, window) in enumerate(zip(times_ms, windows, strict=True)):
        start = index * stride
        clip = np.pad(pcm[start : start + length], (0, config.clip_samples - length))
        np.testing.assert_array_equal(window, features_of_clips(clip[np.newaxis], config)[0])
        assert time_ms == (start + length) * 1000 // RATE_HZ


def test_too_few_samples_give_no_window() -> None:
    config = FeatureConfig()
    for samples, wanted in ((0, 0), (1, 0), (480, 0), (15_999, 0), (16_000, 1), (17_599, 1), (17_600, 2)):
        times_ms, windows = stream_windows(np.zeros(samples, np.int16), config, 10)
        assert len(times_ms) == len(windows) == wanted


def test_events_come_when_the_word_is_in_the_window() -> None:
    def loud_is_a_beep(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
        share = (windows.max(axis=(1, 2)) > 5).mean(axis=-1) * 2
        return posteriors_of_probabilities(np.stack([1 - share, 0 * share, share], axis=1))

    params = DetectorParams(threshold=0.8)
    (event,) = stream_events(recording(4, 2.0), FeatureConfig(), params, LABELS, loud_is_a_beep)
    assert event.label == 2
    assert 2250 <= event.time_ms <= 2600
    assert stream_events(recording(0.5, 0.2), FeatureConfig(), params, LABELS, loud_is_a_beep) == []


@pytest.fixture
def threads() -> Iterator[None]:
    """torch sums differently with more threads, for few frames."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("torch_threads", [1, 2])
@pytest.mark.parametrize("hop_ms", [10, 20])
@pytest.mark.parametrize("stride_frames", [1, 7, 10, 130])
def test_pieces_of_any_length_give_the_windows_of_the_whole(
    hop_ms: int, stride_frames: int, torch_threads: int, threads: None
) -> None:
    torch.set_num_threads(torch_threads)
    config, pcm = features_with_hop(hop_ms), recording(6.03, 1.2)
    wanted_ms, wanted = stream_windows(pcm, config, stride_frames)
    rng = np.random.default_rng(stride_frames)
    for longest in (50, 1600, 1601, 40_000):
        stream = WindowStream(config, stride_frames)
        cuts = np.cumsum(rng.integers(0, longest + 1, 4 * len(pcm) // longest))
        parts = [stream.push(piece) for piece in np.split(pcm, cuts[cuts < len(pcm)])]
        np.testing.assert_array_equal(np.concatenate([times_ms for times_ms, _ in parts]), wanted_ms)
        np.testing.assert_array_equal(np.concatenate([windows for _, windows in parts]), wanted)


def test_a_block_of_a_microphone_gives_the_same_features_on_any_number_of_threads(threads: None) -> None:
    """Ten frames at once, which torch would sum in another order than six hundred."""
    config, pcm = FeatureConfig(), recording(6, 1.2)
    torch.set_num_threads(1)
    wanted = stream_windows(pcm, config, 10)[1]
    for torch_threads in (1, 2):
        torch.set_num_threads(torch_threads)
        stream = WindowStream(config, 10)
        found = [stream.push(pcm[start : start + 1600])[1] for start in range(0, len(pcm), 1600)]
        np.testing.assert_array_equal(np.concatenate(found), wanted)


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
def test_a_long_file_is_read_in_blocks_as_at_once(tmp_path: Path, rate_hz: int, channels: int) -> None:
    from kws.audio import audio_seconds, read_audio, to_pcm16

    path = tmp_path / "long.wav"
    samples = np.random.default_rng(3).normal(0, 0.1, (25 * rate_hz + 17, channels))
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    blocks = list(recording_blocks(path, FeatureConfig()))
    assert len(blocks) >= 3
    assert max(map(len, blocks)) <= 12 * RATE_HZ
    np.testing.assert_array_equal(np.concatenate(blocks), to_pcm16(read_audio(path, RATE_HZ)))
    assert audio_seconds(path) == pytest.approx(25, abs=0.01)


def test_a_recording_shorter_than_a_window_is_refused_with_both_lengths(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(160), RATE_HZ)
    with pytest.raises(KwsError, match=r"short\.wav: lasts 10 ms, but the model needs 1000 ms for an answer; give a"):
        list(recording_blocks(tmp_path / "short.wav", FeatureConfig()))
    config = features_with_hop(20)
    needed = config.window_samples + (config.frames - 1) * config.hop_samples
    for samples, is_enough in ((needed - 1, False), (needed, True)):
        assert bool(len(stream_windows(np.zeros(samples, np.int16), config, 1)[0])) == is_enough
        soundfile.write(tmp_path / "edge.wav", np.zeros(samples), RATE_HZ)
        if is_enough:
            list(recording_blocks(tmp_path / "edge.wav", config))
        else:
            with pytest.raises(KwsError, match="lasts"):
                list(recording_blocks(tmp_path / "edge.wav", config))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"no audio at all", "cannot be decoded"), (None, "cannot be decoded"), ("nan", "NaN"), ("empty", "no samples")],
)
def test_a_file_that_is_no_recording_gets_one_sentence(tmp_path: Path, content: object, sentence: str) -> None:
    path = tmp_path / "bad.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        soundfile.write(path, np.full(RATE_HZ if content == "nan" else 0, np.nan), RATE_HZ, subtype="FLOAT")
    with pytest.raises(KwsError, match=rf"bad\.wav.*{sentence}"):
        list(recording_blocks(path, FeatureConfig()))
