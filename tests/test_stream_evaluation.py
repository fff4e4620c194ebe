"""An hour's figures: the report, and the whole command on a model that was trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Kws
from parity import with_wrong_weight_scale
from streams import LABELS, judged_stream

from kws.detector import DetectorParams
from kws.errors import KwsError
from kws.stream_report import StreamReport, print_report
from kws.thresholds import choose

BURSTS = [(0.9, 0.0, "yes"), (0.0, 0.7, "no"), (0.6, 0.0, "cat"), (0.52, 0.0, None), (0.55, 0.0, "yes")]


def report_of(target: float, labels: list[str] = LABELS, **changes: Any) -> StreamReport:
    heard = judged_stream([(a, b, said and said.replace("yes", labels[2])) for a, b, said in BURSTS], 2.0, labels)
    values = {
        "labels": labels,
        "form": "int8",
        "runtime": "onnxruntime",
        "share_within_a_step": 0.999,
        "judged": {"int8": heard, "float": heard},
        "tuning": heard,
        "chosen": choose(heard, target, per_keyword=False),
        "target": target,
        "base": DetectorParams(),
        "negative_speech_seconds": 1.0,
        "distinct_negative_clips": 1,
        "origin": {"split": "testing", "seed": 0},
        "tuned_on": {"split": "validation", "seed": 0},
    }
    return StreamReport(**(values | changes))


def test_the_report_holds_the_promised_figures() -> None:
    values = json.loads(json.dumps(report_of(0.5).as_json(), allow_nan=False))
    assert (values["schema"], values["hours"], values["words"], values["form"]) == (1, 2.0, 3, "int8")
    at = values["operating_point"]
    assert 0.5 < at["threshold"] <= 0.55
    assert (at["false_accepts_per_hour"], at["false_reject_rate"]) == (0.5, 0.0)
    assert at["false_accepts_interval"] == pytest.approx([0.0253 / 2, 5.5716 / 2], abs=1e-3)
    assert at["false_reject_interval"][0] == 0.0 and 0.4 < at["false_reject_interval"][1] < 0.6
    assert at["latency_ms"]["median"] < 0 and at["latency_ms"]["max"] >= at["latency_ms"]["p90"]
    assert values["detector"]["threshold"] == at["threshold"]
    assert values["false_accept_causes"] == [{"label": "yes", "heard_during": "cat", "count": 1}]
    assert [(row["label"], row["words"], row["hits"], row["false_accepts"]) for row in values["per_keyword"]] == [
        ("yes", 2, 2, 1),
        ("no", 1, 1, 0),
    ]
    wanted = [row["false_accepts_per_hour"] for row in values["targets"]]
    assert wanted == [0.1, 0.5, 1.0, 2.0, 5.0]
    missed = [row["false_reject_rate"] for row in values["targets"]]
    assert missed == [pytest.approx(1 / 3), 0, 0, 0, 0]
    for form in ("int8", "float"):
        det = values["det"][form]
        assert [point["threshold"] for point in det] == sorted({point["threshold"] for point in det})
        for point in det:
            assert point["false_accepts_per_hour"] == point["false_accepts"] / 2
            assert point["false_reject_rate"] == pytest.approx(point["false_rejects"] / 3)


def test_thresholds_of_one_recording_are_judged_on_the_other() -> None:
    """The tuning stream asks for the middle between 0.7 and 0.95, where the judged one has one word of three."""
    tuning = judged_stream([(0.95, 0.0, "yes"), (0.7, 0.0, None)])
    chosen = choose(tuning, 0.5, per_keyword=False)
    report = report_of(0.5, tuning=tuning, chosen=chosen)
    at = report.operating_point()
    assert at is not None
    assert at["threshold"] == pytest.approx(0.87, abs=0.02)
    assert at["false_reject_rate"] == pytest.approx(2 / 3)
    assert [row["false_reject_rate"] for row in report.targets()][:2] == [pytest.approx(2 / 3)] * 2


def test_a_target_that_cannot_be_met_gives_nulls(capsys: pytest.CaptureFixture[str]) -> None:
    sure = judged_stream([(1.0, 0.0, None), (1.0, 0.0, "yes")])
    report = report_of(0.5, judged={"int8": sure, "float": sure}, tuning=sure, chosen=None)
    values = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert values["operating_point"] is None
    assert values["per_keyword"] == values["false_accept_causes"] == []
    assert [row["threshold"] is None for row in values["targets"]] == [True, True, False, False, False]
    print_report(report)
    printed = capsys.readouterr().out
    assert "latency" not in printed and "5" in printed


def test_the_tables_say_what_a_reader_must_know(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report_of(0.5))
    printed = capsys.readouterr().out
    assert "2 hours, 3 keywords" in printed
    assert "False accepts an hour: 0.5 (95 %: 0.013 to 2.8). Missed: 0.0%" in printed
    assert "other speakers" in printed
    assert "1 s, of 1 different clips" in printed
    assert "from none" not in printed
    print_report(report_of(0.5, tuned_on=None, distinct_negative_clips=0))
    printed = capsys.readouterr().out
    assert "these figures flatter them" in printed
    assert "Nothing but keywords is said here" in printed
    assert "synthetic" not in printed
    print_report(report_of(0.5, origin={"split": "testing", "noise": "synthetic"}))
    assert "The data has no background noise, so the noise here is synthetic." in capsys.readouterr().out
    print_report(report_of(0.4))
    assert "2 hours are too few to tell 0.4 false accepts an hour from none" in capsys.readouterr().out


def test_labels_in_the_tables_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report_of(0.5, labels=["_silence_", "_unknown_", "[red]\x1b[31m\n", "no"]))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert printed.count("[red]\\x1b[31m\\n") == 2, "among the keywords and among the false accepts"


@pytest.mark.slow
def test_an_hour_is_judged_and_again_from_its_recording(built: Path, spoken: Path, tmp_path: Path, kws: Kws) -> None:
    long = ["--hours", "0.05", "--false-accepts-per-hour", "200", "--snr-db", "40,50"]
    common = ["benchmark", built, "--stream", *long, "--data", spoken]
    made = kws(*common, "--out", tmp_path / "scene", "--write-audio", "--workers", "2")
    report = json.loads((tmp_path / "scene" / "stream.json").read_text())
    assert report["hours"] == pytest.approx(0.05)
    assert report["words"] > 20 and report["negative_speech_seconds"] > 20
    assert report["share_within_a_step_of_tflm"] >= 0.99
    assert report["operating_point"]["false_reject_rate"] < 0.8
    assert -500 < report["operating_point"]["latency_ms"]["median"] < 1000
    assert report["thresholds_chosen_on"]["split"] == "validation"
    assert "Thresholds were chosen on other speakers" in made.stdout
    assert json.loads((tmp_path / "scene" / "detector.json").read_text()) == report["detector"]

    folder = tmp_path / "scene"
    source = ["--recording", folder / "scene.wav", "--labels", folder / "scene.txt"]
    kws(*common, *source, "--out", tmp_path / "again", "--workers", "1")
    again = json.loads((tmp_path / "again" / "stream.json").read_text())
    assert again["scene"] == {"recording": "scene.wav", "labels": "scene.txt"}
    for name in ("det", "operating_point", "targets", "per_keyword", "false_accept_causes", "detector"):
        assert again[name] == report[name], name
    alone = kws(*common[:-2], *source, "--out", tmp_path / "alone", "--per-keyword")
    assert "these figures flatter them" in alone.stdout
    assert json.loads((tmp_path / "alone" / "stream.json").read_text())["det"] == report["det"]
    assert len(json.loads((tmp_path / "alone" / "detector.json").read_text())["thresholds"]) == 4

    kws("benchmark", built, "--data", spoken, "--out", folder)
    assert "<h2>Running sound</h2>" in (folder / "report.html").read_text()

    detector = ["--detector", folder / "detector.json"]
    heard = kws("detect", built / "model.int8.onnx", "--wav", folder / "scene.wav", *detector).stdout.splitlines()
    counted = [row["hits"] + row["false_accepts"] for row in report["per_keyword"]]
    assert len(heard) == sum(counted) > 5
    kws("headers", built / "model.int8.tflite", "--out", tmp_path / "firmware", *detector)


@pytest.mark.slow
def test_what_cannot_be_judged_gets_one_sentence(built: Path, spoken: Path, tmp_path: Path, kws: Kws) -> None:
    import soundfile

    wav, labels = tmp_path / "a.wav", tmp_path / "labels.txt"
    soundfile.write(wav, np.zeros(16_000 * 3), 16_000)
    soundfile.write(tmp_path / "short.wav", np.zeros(160), 16_000)

    def refusal(*options: str | Path) -> str:
        result = kws("benchmark", built, "--stream", *options, "--out", tmp_path / "out", check=False)
        lines = result.stderr.splitlines()
        assert (result.returncode, len(lines)) == (1, 1), result.stderr
        assert not list((tmp_path / "out").glob("*"))
        return lines[0]

    labels.write_text("0.5\t1.0\tyes\n1\t9\tno\n")
    assert "its labels reach to 9.00 s" in refusal("--recording", wav, "--labels", labels)
    labels.write_text("0.5\t1.0\tHELLO\n")
    assert "names HELLO, but the model listens for yes, no, stop, go" in refusal("--recording", wav, "--labels", labels)
    assert "lasts 10 ms" in refusal("--recording", tmp_path / "short.wav", "--labels", labels)
    assert "no such file" in refusal("--recording", wav, "--labels", tmp_path / "none.txt")
    (tmp_path / "detector.json").write_text('{"thresholds": {"hello": 0.5}}')
    detector = ["--detector", tmp_path / "detector.json", "--data", spoken]
    assert "has a threshold for 'hello', which is no label" in refusal(*detector)
    assert (
        "cannot write here"
        in kws("benchmark", built, "--stream", "--data", spoken, "--out", wav / "out", check=False).stderr
    )


@pytest.mark.slow
def test_a_wrong_scale_in_what_the_device_runs_is_refused(built: Path, spoken: Path, tmp_path: Path) -> None:
    from export.stream_evaluation import prove_form, read_build
    from export.stream_material import scene_material
    from kws.dataset import load_dataset_for
    from kws.scene import make_scene

    build = read_build(built)
    dataset = load_dataset_for(build.facts.labels, spoken, build.features, ["testing"])
    scene = scene_material(make_scene(dataset, "testing", 16_000, 0.02, 0), tmp_path / "scene")
    assert prove_form(build, scene, DetectorParams()) >= 0.99
    wrong = replace(build.facts, data=with_wrong_weight_scale(build.facts.data, 1.5))
    with pytest.raises(KwsError, match="share of logits within one int8 step is"):
        prove_form(replace(build, facts=wrong), scene, DetectorParams())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "--stream needs --data, or --recording and --labels"),
        (["--recording", "a.wav"], "give --recording and --labels together"),
        (["--data", "d", "--inputs", "x.npy"], "leave --inputs and --targets away"),
        (["--data", "d", "--hours", "0"], "not above 0"),
        (["--data", "d", "--snr-db", "20,5"], "20,5 begins above its end"),
        (["--data", "d", "--snr-db", "5,loud"], "'loud' is no number"),
        (["--data", "d", "--false-accepts-per-hour", "-1"], "not above 0"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    from kws import cli

    with pytest.raises(SystemExit) as exited:
        cli.main(["benchmark", "build", "--stream", *options])
    assert exited.value.code == 2
    assert sentence in capsys.readouterr().err
