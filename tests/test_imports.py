"""Import direction: kws <- quantize <- export; only the command line reaches up, and lazily."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"kws": {"quantize", "export"}, "quantize": {"export"}, "export": set()}


def imported_packages(source: str, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(source)
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_the_walk_finds_imports_wherever_they_stand() -> None:
    source = "import a.b\ndef f():\n    from c.d import e\n"
    assert imported_packages(source) == {"a", "c"}
    assert imported_packages(source, top_level_only=True) == {"a"}


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_no_import_points_the_wrong_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        top_level_only = file.parent.name == "commands"
        wrong = imported_packages(file.read_text(encoding="utf-8"), top_level_only) & FORBIDDEN[package]
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


def test_help_loads_no_heavy_package_and_answers_at_once() -> None:
    program = (
        "import sys\nfrom kws.cli import main\n"
        "try:\n    main(['-h'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'tensorflow', 'onnx', 'onnxruntime', 'numpy', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    durations_s = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "kws.cli", "-h"], check=True, capture_output=True)
        durations_s.append(time.perf_counter() - started)
    assert min(durations_s) < 0.3
