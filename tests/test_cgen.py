"""What Python writes as C reads back as the same value, whatever it is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from toolchains import host_program, run_program

from export import cgen
from kws.errors import KwsError

NASTY_STRINGS = [
    'quote " backslash \\ tab \t newline \n return \r',
    "trigraphs ??/ ??= ??!",
    "\x01" + "23abc",
    "é" + "f00d",
    "\u0628\u062d\u0631",
    "日本語 🎤",
    "%s %n ${x} {{ x }} {% x %} */ // /*",
    "'; #include <x>",
    "\x7f\x1b[31m\u202e",
]
C_WORDS = {"int", "kLabelCount", "default", "class", "main"}


def _print_bytes_program(declaration: str, size: str, pointer: str) -> str:
    return f"#include <stdio.h>\n{declaration}\nint main(void) {{ fwrite({pointer}, 1, {size}, stdout); return 0; }}\n"


def test_floats_read_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 3000, dtype=np.uint32).view(np.float32)
    edges = np.array([0, -0.0, 1, 1e-10, 1e16, 1e38, 1e-38, 1e-45, 16777217, 0.1, 1 / 3, 3.4028235e38], np.float32)
    values = np.concatenate([bits[np.isfinite(bits)], edges])
    source = tmp_path / "main.c"
    declaration = f"static const float values[] = {{\n{cgen.c_float_array(values)}\n}};"
    source.write_text(_print_bytes_program(declaration, "sizeof(values)", "values"), encoding="ascii")
    printed = run_program(host_program([source], [], tmp_path / "out"))
    assert printed == values.tobytes()


@pytest.mark.parametrize(
    ("value", "literal"), [(1e-10, "1e-10f"), (1e16, "1e+16f"), (3.0, "3.0f"), (0.1, "0.1f"), (-0.0, "-0.0f")]
)
def test_floats_are_short(value: float, literal: str) -> None:
    assert cgen.c_float(value) == literal


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_a_float_without_a_literal_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no C literal"):
        cgen.c_float(value)


def test_nasty_strings_read_back_exactly(tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    literals = ", ".join(cgen.c_string(text) for text in NASTY_STRINGS)
    source.write_text(
        f"#include <stdio.h>\nstatic const char *const strings[] = {{{literals}}};\n"
        "int main(void) {\n  for (unsigned i = 0; i < sizeof(strings) / sizeof(strings[0]); ++i) {\n"
        "    fputs(strings[i], stdout);\n    putchar(0);\n  }\n  return 0;\n}\n",
        encoding="ascii",
    )
    printed = run_program(host_program([source], [], tmp_path / "out"))
    assert printed.split(b"\0")[:-1] == [text.encode() for text in NASTY_STRINGS]


@pytest.mark.parametrize("text", ["nul \0 inside", "lone \ud800 surrogate"])
def test_a_string_that_c_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"NUL|surrogate"):
        cgen.c_string(text)


def test_identifiers_say_the_label() -> None:
    labels = ["_silence_", "yes", "go left", "123", "turn-off"]
    assert cgen.label_identifiers(labels) == [
        "kLabelSilence",
        "kLabelYes",
        "kLabelGoLeft",
        "kLabel123",
        "kLabelTurnOff",
    ]


def test_identifiers_are_valid_and_unique() -> None:
    labels = [
        "yes",
        "Yes",
        "yes!",
        "count",
        "int",
        "\u0628\u062d\u0631",
        "3",
        "",
        "日本",
        "é",
        "e",
        "1",
        "_1",
        "kLabel_5",
        *NASTY_STRINGS,
    ]
    names = cgen.label_identifiers(labels)
    assert len(set(names)) == len(labels)
    assert all(re.fullmatch(r"kLabel[A-Za-z0-9]*(_\d+)?", name, re.ASCII) for name in names)
    assert not C_WORDS & set(names)
    assert names[5] == "kLabel_5"


def test_a_comment_cannot_end_early() -> None:
    assert cgen.c_comment("a*/ b\n#include\\") == "a___b__include_"


def test_array_lines_stay_short() -> None:
    lines = cgen.c_byte_array(bytes(range(256))).splitlines()
    assert max(map(len, lines)) <= cgen.LINE_WIDTH
    assert [int(item, 16) for line in lines for item in line.split(",") if item.strip()] == list(range(256))


def test_ops_of_one_type_get_the_kernels_of_that_type() -> None:
    ops = {"CONV_2D": "INT8", "ADD": None, "LOGISTIC": "INT8", "MUL": "INT16", "SOFTMAX": "INT16"}
    assert cgen.op_registrations(ops, source="m") == [
        "AddAdd()",
        "AddConv2D(tflite::Register_CONV_2D_INT8())",
        "AddLogistic()",
        "AddMul()",
        "AddSoftmax(tflite::Register_SOFTMAX_INT16())",
    ]


def test_an_op_that_tflm_lacks_is_named() -> None:
    with pytest.raises(KwsError, match=r"^m\.tflite: the op STABLEHLO_SORT "):
        cgen.op_registrations({"ADD": "INT8", "STABLEHLO_SORT": "INT8"}, source="m.tflite")
