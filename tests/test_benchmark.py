from __future__ import annotations

import json

import numpy as np
import pytest
from made_benchmarks import INSTRUCTIONS, LABELS, answers, benchmark, costs

from kws.benchmark import compare, snr_point
from kws.benchmark_tables import paired_sentence, print_benchmark
from kws.statistics import paired_difference_interval, wilson_interval

KEYS = {
    *("schema", "build", "labels", "clips", "accuracy", "accuracy_interval", "macro_f1", "agreement", "agreements"),
    *("sqnr_db", "sqnrs_db", "mcnemar", "per_class", "confusion", "worst_classes", "disagreements", "snr", "snr_form"),
    *("calibration", "scores", "model_bytes", "arena_bytes", "arena", "macs", "params", "estimated_instructions"),
}


def test_every_form_is_judged_and_float_stands_beside_the_device() -> None:
    result = benchmark()
    assert result.accuracy == {"torch": 1.0, "float": 1.0, "qdq": 1.0, "tflite": 0.875, "int8": 0.875}
    assert result.accuracy_interval["int8"] == wilson_interval(7, 8)
    assert result.agreements == result.accuracy
    assert result.agreement == 0.875
    # Of 8 logits that are 1 one lacks and one is too much.
    assert result.sqnr_db == pytest.approx(10 * np.log10(8 / 2))
    # Class 0: 2 right, 1 heard that was not said; class 1: 3 of 4; class 2: 2 of 2.
    assert result.macro_f1["int8"] == pytest.approx((4 / 5 + 6 / 7 + 1) / 3)
    assert result.confusion == {
        "float": [[2, 0, 0], [0, 4, 0], [0, 0, 2]],
        "int8": [[2, 0, 0], [1, 3, 0], [0, 0, 2]],
    }
    assert (result.mcnemar.float_only_right, result.mcnemar.device_only_right) == (1, 0)
    assert result.mcnemar.drop == 0.125
    assert result.mcnemar.drop_interval == paired_difference_interval(7, 1, 0, 0)


def test_disagreements_tell_the_clip_both_answers_and_their_posteriors() -> None:
    score = np.e / (np.e + 2)
    (found,) = benchmark().disagreements
    assert found == {
        "clip": "clip-7",
        "label": LABELS[1],
        "float": LABELS[1],
        "int8": LABELS[0],
        "float_score": pytest.approx(score),
        "int8_score": pytest.approx(score),
    }


def test_worst_classes_come_first_and_say_what_was_heard_instead() -> None:
    first, second, third = benchmark().worst_classes
    assert (first["label"], first["recall"], first["most_heard_as"]) == (LABELS[0], 1.0, None)
    assert (second["label"], second["recall"], second["most_heard_as"]) == (LABELS[1], 0.75, LABELS[0])
    assert (third["f1"], third["most_heard_as"]) == (1.0, None)


def test_a_class_without_clips_is_not_among_the_worst() -> None:
    same = answers([0, 1])
    found = compare(
        {"float": same, "int8": same},
        np.array([0, 1]),
        build="b",
        labels=LABELS,
        clip_names=["a", "b"],
        costs=costs(),
    )
    assert [one["label"] for one in found.worst_classes] == LABELS[:2]


def test_json_holds_the_promised_keys_and_no_infinity() -> None:
    values = json.loads(json.dumps(benchmark(wrong=0, noise=True).as_json(), allow_nan=False))
    assert set(values) == KEYS
    assert values["schema"] == 2
    assert values["sqnr_db"] is None
    assert values["sqnrs_db"] == dict.fromkeys(("torch", "float", "qdq", "tflite", "int8"))
    assert values["snr_form"] == "int8"
    assert [point["snr_db"] for point in values["snr"]] == [None, 10.0]
    assert set(values["mcnemar"]) == {
        *("float_only_right", "device_only_right", "p_value", "drop", "drop_interval"),
    }
    assert set(values["calibration"]) == set(values["scores"]) == set(values["per_class"]) == {"float", "int8"}
    assert values["arena"] == {"cortex_m4": 1600, "cortex_m55": 1700}
    assert values["estimated_instructions"] == INSTRUCTIONS


def test_a_name_that_is_no_utf8_can_be_written() -> None:
    logits = {"float": answers([0]), "int8": answers([1])}
    found = compare(
        logits, np.array([0]), build="b", labels=LABELS, clip_names=["yes/\udcff.wav"], costs=costs()
    ).disagreements
    assert found[0]["clip"].encode() == b"yes/\\xff.wav"


def test_accuracy_under_noise_is_of_the_clips_given() -> None:
    point = snr_point(5.0, {"float": answers([0, 1, 2]), "int8": answers([0, 0, 0])}, np.array([0, 1, 1]))
    assert point.clips == 3
    assert point.accuracy == {"float": pytest.approx(2 / 3), "int8": pytest.approx(1 / 3)}
    assert point.accuracy_interval["int8"] == wilson_interval(1, 3)


def test_the_paired_test_is_put_in_plain_words() -> None:
    sentence = paired_sentence(benchmark()).plain
    assert "1 are right in float alone and 0 in int8 alone, as chance alone would give" in sentence
    assert "p = 1)" in sentence
    low, high = (100 * end for end in paired_difference_interval(7, 1, 0, 0))
    assert f"int8 - float is -12.50 points, 95% interval {-high:+.2f} .. {-low:+.2f}." in sentence
    assert (
        "8 clips float and int8 are right on the same ones: int8 - float is +0.00"
        in paired_sentence(benchmark(0)).plain
    )
    assert "more than chance alone" in paired_sentence(benchmark(wrong=8)).plain


def test_confusions_are_listed_with_both_counts(capsys: pytest.CaptureFixture[str]) -> None:
    print_benchmark(benchmark())
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert rows.count(["[red]yes[/red]", "_silence_", "0", "1"]) == 1


def test_labels_and_names_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logits = {"float": answers([1]), "int8": answers([2])}
    names = ["yes/\x1b[2J[bold]a.wav"]
    print_benchmark(compare(logits, np.array([1]), build="b", labels=LABELS, clip_names=names, costs=costs()))
    printed = capsys.readouterr().out
    assert "[red]yes[/red]" in printed
    assert "line\\nbreak" in printed
    assert "yes/\\x1b[2J[bold]a.wav" in printed
    assert "\x1b" not in printed


def test_the_summary_has_a_column_for_each_form_and_the_noise_one_for_each_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_benchmark(benchmark(noise=True))
    rows = [line.replace("│", " ").replace("┃", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["torch", "float", "qdq", "tflite", "int8"] in rows
    assert ["accuracy", "100.00%", "100.00%", "100.00%", "87.50%", "87.50%"] in rows
    assert ["clean", "10", "dB"] in rows
    assert ["int8", "85.7%", "85.7%"] in rows
    assert ["instructions,", "Cortex-M4,", "estimated", "48,111,703"] in rows
