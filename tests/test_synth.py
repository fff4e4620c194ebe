"""The embedded data set: reproducible, in Speech Commands layout, audible, and never half-written."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import wave
from pathlib import Path

import espeakng_loader
import numpy as np
import numpy.typing as npt
import pytest

from kws import espeak, synth, voices
from kws.errors import KwsError
from kws.splits import speaker_of

WORDS = ("yes", "no")
SPEAKERS = 6
EMPTY_OR_PADDED = ["", "  ", " yes"]
PATHS = ["a/b", "..", "../up", "a\\b", "_hidden", ".git", "end.", "con:", "a*"]
CONTROL_CHARACTERS = ["a\nb", "a\0b", "a\u202eb", "\ud800"]
TOO_LONG = ["x" * 61, "ü" * 31]
UNSAFE_WORDS = [*EMPTY_OR_PADDED, *PATHS, *CONTROL_CHARACTERS, *TOO_LONG]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "data"
    assert synth.synthesize(out, words=WORDS, speakers=SPEAKERS) == len(WORDS) * SPEAKERS
    return out


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_wav(path: Path) -> npt.NDArray[np.float64]:
    with wave.open(str(path), "rb") as stream:
        assert (stream.getnchannels(), stream.getsampwidth(), stream.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(stream.readframes(stream.getnframes()), "<i2") / 32768.0


def dbfs(samples: npt.NDArray[np.floating]) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(np.square(samples, dtype=np.float64))) + 1e-12))


def plain(text: str, **changes: object) -> espeak.Utterance:
    fields = {"accent": "gmw/en-US", "variant": "m3", "rate_wpm": 160, "pitch": 50, "pitch_range": 50, "noise_seed": 1}
    return espeak.Utterance(**{"text": text} | fields | changes)  # type: ignore[arg-type]


def test_layout_is_that_of_speech_commands(data: Path) -> None:
    assert {path.name for path in data.iterdir()} == {*WORDS, synth.NOISE_FOLDER}
    speakers = [voice.speaker for voice in voices.draw_voices(SPEAKERS, 0)]
    expected = sorted(f"{speaker}_nohash_0.wav" for speaker in speakers)
    for word in WORDS:
        assert sorted(path.name for path in (data / word).iterdir()) == expected
    assert {speaker_of(name) for name in expected} == set(speakers)


def test_each_clip_is_one_second_of_audible_speech_that_does_not_clip(data: Path) -> None:
    for word in WORDS:
        for path in (data / word).iterdir():
            clip = read_wav(path)
            assert len(clip) == 16_000
            assert -40 < dbfs(clip) < -10
            assert np.abs(clip).max() < 1
            loudest = np.sort(clip.reshape(-1, 160).std(axis=1))
            assert loudest[-10] > 10 * loudest[5], "speech stands out of the noise"


def test_same_seed_gives_the_same_bytes_in_another_process(data: Path, tmp_path: Path) -> None:
    program = "import pathlib, sys; from kws.synth import synthesize; "
    program += f"synthesize(pathlib.Path(sys.argv[1]), words={WORDS!r}, speakers={SPEAKERS})"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "again")], check=True)
    assert files_of(tmp_path / "again") == files_of(data)


def test_another_seed_gives_other_bytes(data: Path, tmp_path: Path) -> None:
    synth.synthesize(tmp_path / "other", words=WORDS, speakers=SPEAKERS, seed=1)
    before, after = files_of(data), files_of(tmp_path / "other")
    assert len(after) == len(before)
    assert not set(after.values()) & set(before.values())


def test_other_words_and_more_speakers_leave_a_clip_alone(data: Path, tmp_path: Path) -> None:
    synth.synthesize(tmp_path / "more", words=("marvin", "no"), speakers=SPEAKERS + 2)
    before, after = files_of(data / "no"), files_of(tmp_path / "more" / "no")
    assert len(after) == SPEAKERS + 2
    assert {name: after[name] for name in before} == before


def test_background_noise_is_long_audible_and_does_not_clip(data: Path) -> None:
    folder = data / synth.NOISE_FOLDER
    assert {path.stem for path in folder.iterdir()} == set(synth.NOISE_DBFS) >= {"hum", "babble"}
    for path in folder.iterdir():
        noise = read_wav(path)
        assert len(noise) == 60 * 16_000
        assert np.abs(noise).max() < 1
        assert abs(dbfs(noise) - synth.NOISE_DBFS[path.stem]) < 0.5
        assert min(dbfs(second) for second in noise.reshape(60, -1)) > synth.NOISE_DBFS[path.stem] - 12


def test_noises_differ_in_colour(data: Path) -> None:
    def share_below_1_khz(name: str) -> float:
        power = np.abs(np.fft.rfft(read_wav(data / synth.NOISE_FOLDER / f"{name}.wav"))) ** 2
        return float(power[: len(power) // 8].sum() / power.sum())

    assert share_below_1_khz("white_noise") == pytest.approx(1 / 8, abs=0.01)
    assert 0.4 < share_below_1_khz("pink_noise") < 0.8
    assert share_below_1_khz("hum") > 0.95


def test_background_voices_never_say_a_word_of_the_set() -> None:
    assert not set(synth.BABBLE_WORDS) & set(synth.DEFAULT_WORDS)
    with pytest.raises(KwsError, match="leave none"):
        synth._babble([word.upper() for word in synth.BABBLE_WORDS], seed=0)


def test_words_lie_at_different_places_in_the_clip(data: Path) -> None:
    clips = [read_wav(path) for word in WORDS for path in (data / word).iterdir()]
    loudest_s = [0.01 * int(np.argmax(clip.reshape(-1, 160).std(axis=1))) for clip in clips]
    assert min(loudest_s) < 0.4
    assert max(loudest_s) > 0.6


def test_of_long_speech_the_loudest_second_is_kept(tmp_path: Path) -> None:
    time_s = np.arange(40_000) / 16_000
    loud = (time_s >= 0.5) & (time_s < 1.5)
    tones = np.where(loud, np.sin(2 * np.pi * 440 * time_s), 0.1 * np.sin(2 * np.pi * 2000 * time_s))
    power = np.abs(np.fft.rfft(synth._clip(tones.astype(np.float32), voices.seeded("long")))) ** 2
    assert power[440] > 0.9 * power.sum()
    synth.synthesize(tmp_path / "out", words=["9" * 60], speakers=1)
    assert {len(read_wav(path)) for path in (tmp_path / "out" / ("9" * 60)).iterdir()} == {16_000}


def test_a_longer_vocal_tract_lowers_and_slows_speech() -> None:
    voice = dataclasses.replace(voices.draw_voices(1, 0)[0], vocal_tract=1.1)
    tone = np.sin(2 * np.pi * 1100 / espeak.SAMPLE_RATE_HZ * np.arange(espeak.SAMPLE_RATE_HZ)).astype(np.float32)
    lowered = synth._resample(tone, voice)
    assert len(lowered) == pytest.approx(1.1 * 16_000, abs=2)
    peak_hz = int(np.argmax(np.abs(np.fft.rfft(lowered)))) * 16_000 / len(lowered)
    assert peak_hz == pytest.approx(1000, abs=2)


def test_words_of_other_scripts_and_with_spaces_are_spoken(tmp_path: Path) -> None:
    words = ["نعم", "Tür", "hey robot"]
    assert synth.synthesize(tmp_path / "out", words=words, speakers=1) == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*words, synth.NOISE_FOLDER}


@pytest.mark.parametrize("word", UNSAFE_WORDS)
def test_a_word_that_is_no_safe_folder_name_is_refused(word: str, tmp_path: Path) -> None:
    with pytest.raises(KwsError) as caught:
        synth.synthesize(tmp_path / "out", words=["yes", word], speakers=1)
    assert repr(word) in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("twin", ["yes", "YES", "\u0079es"])
def test_a_word_given_twice_is_refused(twin: str, tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="twice"):
        synth.synthesize(tmp_path / "out", words=["yes", twin], speakers=1)


@pytest.mark.parametrize(("words", "speakers"), [([], 1), (["yes"], 0)])
def test_nothing_to_speak_is_refused(words: list[str], speakers: int, tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="at least"):
        synth.synthesize(tmp_path / "out", words=words, speakers=speakers)


def test_a_silent_word_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="'-' is spoken as silence"):
        synth.synthesize(tmp_path / "out", words=["yes", "-"], speakers=1)
    assert not list(tmp_path.iterdir())


def test_a_failure_midway_leaves_an_empty_folder_empty(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(KeyboardInterrupt):
        synth.synthesize(out, words=["yes"], speakers=1, progress=interrupt)
    assert list(tmp_path.rglob("*")) == [out]


def test_a_folder_with_files_or_a_file_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = files_of(tmp_path)
    for name in ("full", "file"):
        with pytest.raises(KwsError, match=f"{name}: exists already"):
            synth.synthesize(tmp_path / name, words=["yes"], speakers=1)
    assert files_of(tmp_path) == before


def test_progress_counts_every_clip(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    clips = synth.synthesize(
        tmp_path / "out", words=["yes"], speakers=2, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(done, clips) for done in range(1, clips + 1)]


def test_markup_in_a_word_is_read_aloud_not_obeyed() -> None:
    pause, hello = voices.speak([plain("[[_:_:_:]]"), plain("[[h@l'oU]]")], "test")
    obeyed = voices.speak([plain("hello")], "test")[0]
    assert dbfs(pause) > -40
    assert len(hello) > 1.3 * len(obeyed)


def test_voices_differ_and_a_larger_set_begins_with_the_same_ones() -> None:
    many = voices.draw_voices(100, 0)
    assert len({voice.speaker for voice in many}) == 100
    assert voices.draw_voices(10, 0) == many[:10]
    assert not {voice.speaker for voice in voices.draw_voices(100, 1)} & {voice.speaker for voice in many}


def voiced_share(speech: npt.NDArray[np.float32]) -> float:
    """Share of the louder 40 ms frames whose normalised autocorrelation passes 0.6 between 60 and 400 Hz."""
    size, low, high = 882, 55, 367
    frames = np.lib.stride_tricks.sliding_window_view(speech.astype(np.float64), size)[::220]
    power = frames.var(axis=1)
    frames = frames[power > 0.02 * power.max()]
    frames = frames - frames.mean(axis=1, keepdims=True)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames, 2048)) ** 2)[:, :high]
    normalised = correlation[:, low:] / (correlation[:, :1] * (1 - np.arange(low, high) / size))
    return float(np.mean(normalised.max(axis=1) > 0.6))


def test_every_voice_variant_speaks_audibly_and_voiced() -> None:
    variants = (*voices.LOW_VARIANTS, *voices.HIGH_VARIANTS)
    spoken = voices.speak([plain("no yellow lion", variant=variant) for variant in (*variants, "whisper")], "test")
    shares = {variant: voiced_share(speech) for variant, speech in zip((*variants, "whisper"), spoken, strict=True)}
    assert shares.pop("whisper") < 0.3
    assert min(shares.values()) > 0.6, shares
    assert min(dbfs(speech) for speech in spoken) > -32


def test_every_accent_exists_and_is_listed_once() -> None:
    assert len(set(voices.ACCENTS)) == len(voices.ACCENTS)
    assert len(voices.speak([plain("yes", accent=accent) for accent in voices.ACCENTS], "test")) == len(voices.ACCENTS)


@pytest.mark.parametrize("change", [{"variant": "nobody"}, {"accent": "gmw/nowhere"}])
def test_an_unknown_voice_is_an_error_not_the_plain_voice(change: dict[str, str]) -> None:
    with pytest.raises(KwsError, match="has no voice"):
        voices.speak([plain("yes", **change)], "test")


@pytest.mark.parametrize("lost", ["get_library_path", "get_data_path"])
def test_a_missing_library_or_data_folder_is_a_sentence(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(espeakng_loader, lost, lambda: str(tmp_path / "lost"))
    with pytest.raises(KwsError, match="reinstall the Python package espeakng-loader"):
        synth.synthesize(tmp_path / "out", words=["yes"], speakers=1)
    assert not list(tmp_path.iterdir())
