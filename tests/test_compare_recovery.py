from __future__ import annotations

from pathlib import Path

import pytest

from quantize.options import QuantizeOptions
from scripts import compare_recovery


@pytest.mark.slow
def test_the_table_has_the_figures_of_each_method_on_both_splits(
    trained_run: Path, spoken: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_recovery, "ROWS", {"none": compare_recovery.PLAIN, "default": QuantizeOptions()})
    compare_recovery.compare(trained_run / "checkpoint.pt", spoken)
    table = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    (none,), (default,) = ([row for row in table if row[0] == name] for name in ("none", "default"))
    assert len(none) == len(default) == len(table[0]) == 8
    for column in (table[0].index("validation SQNR"), table[0].index("test SQNR")):
        plain, recovered = (float(row[column].removesuffix(" dB")) for row in (none, default))
        assert min(plain, recovered) > 15
        assert plain != recovered, "the options did not reach the quantizer"
