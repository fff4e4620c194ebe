from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from made_benchmarks import LABELS, benchmark, costs
from matplotlib.image import imread

from kws.comparison import comparison, print_comparison, report_names, write_comparison
from kws.errors import KwsError

HOSTILE = "_$x_$<b>&\x1b[31m"


def test_builds_of_one_name_get_reports_of_their_own(tmp_path: Path) -> None:
    folders = [Path("a/build"), Path("b/build"), Path("c/other"), Path("x/a/build"), Path("y/B-BUILD")]
    names = report_names([tmp_path / folder for folder in folders])
    assert names == ["a-build", "b-build", "other", "a-build-2", "B-BUILD-2"]
    assert report_names([tmp_path / "build"]) == ["build"]


def test_a_build_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"build: is given twice; name each build once\.$"):
        report_names([tmp_path / "build", tmp_path / "x" / ".." / "build"])


def test_comparison_holds_what_sets_builds_apart() -> None:
    results = {"small": benchmark(wrong=2, build="build"), "wide": benchmark(device="int16", wrong=0)}
    found = json.loads(json.dumps(comparison(results), allow_nan=False))
    assert found["labels"] == sorted(LABELS)
    assert found["clips"] == 8
    small, wide = found["builds"]
    assert (small["name"], small["device"], small["accuracy"]["int8"]) == ("small", "int8", 0.75)
    assert (wide["name"], wide["device"], wide["accuracy"]["int16"]) == ("wide", "int16", 1.0)
    assert wide["sqnr_db"] is None
    assert small["mcnemar"]["drop"] == 0.25
    assert small["arena"]["cortex_m4"] == 1600


def test_the_table_has_a_row_a_build_and_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison({"[red]one[/red]": benchmark(wrong=2), "two\x1b[2J": benchmark(wrong=0, device="int16")})
    printed = capsys.readouterr().out
    assert "2 builds on the same 8 clips" in printed
    assert "\x1b" not in printed
    joined = "".join(printed.split())
    assert "[red]one" in joined
    assert "75.00%" in printed
    assert "-25.00" in printed
    assert "int16" in printed


def test_pictures_show_every_build_and_are_the_same_again(tmp_path: Path) -> None:
    results = {HOSTILE: benchmark(wrong=2), "نموذج": benchmark(wrong=1, device="int16")}
    for out in (tmp_path / "report", tmp_path / "again"):
        write_comparison(out, results)
    names = ["comparison.json", "comparison.png", "comparison.svg"]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == names
    for name in names:
        assert (tmp_path / "report" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert ET.parse(tmp_path / "report" / "comparison.svg").getroot().tag.endswith("svg")
    image = imread(tmp_path / "report" / "comparison.png")
    assert image.shape[1] > 1000
    assert image.std() > 0.01


def test_the_panels_put_accuracy_over_size_instructions_and_arena() -> None:
    from kws.comparison_plot import comparison_figure

    figure = comparison_figure({HOSTILE: benchmark(wrong=2), "two": benchmark(wrong=1)})
    panels = figure.axes
    assert [axes.get_xlabel().split(",")[0] for axes in panels] == [
        ".tflite",
        "instructions on Cortex-M4",
        "arena on Cortex-M4",
    ]
    for axes, place in zip(panels, (1.0, 48.111703, 1.6), strict=True):
        drawn = [tuple(map(float, point)) for line in axes.lines for point in line.get_xydata()]
        for accuracy in (75.0, 87.5, 100.0):
            assert any(x == pytest.approx(place) and y == pytest.approx(accuracy) for x, y in drawn)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["int8: _$x_$<b>&\\x1b[31m", "int8: two", "float"]


def test_a_build_of_unknown_instructions_is_left_out_of_their_panel_alone() -> None:
    from kws.comparison_plot import comparison_figure

    unknown = {"cortex_m4": 0, "cortex_m55": 0, "unmeasured_ops": 3}
    result = dataclasses.replace(benchmark(), costs=costs(instructions=unknown))
    size, instructions, arena = comparison_figure({"odd": result}).axes
    assert len(size.containers) == len(arena.containers) == 1
    assert len(instructions.containers) == 0


def test_twelve_builds_can_be_told_apart_in_the_legend() -> None:
    from kws.comparison_plot import comparison_figure

    figure = comparison_figure({f"build-{index}": benchmark(wrong=1) for index in range(12)})
    for axes in figure.axes:
        looks = {(container[0].get_color(), container[0].get_marker()) for container in axes.containers}
        assert len(looks) == 12
