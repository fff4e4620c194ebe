from __future__ import annotations

from pathlib import Path

import pytest

from kws.artifact import (
    atomic_file,
    atomic_folder,
    damage,
    make_folder,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
)
from kws.errors import KwsError


def entries(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    with atomic_file(target) as temporary:
        temporary.write_text("first")
        assert not target.exists()
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "first"
    assert entries(tmp_path) == ["model.bin"]


def test_a_folder_appears_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "build"
    with atomic_folder(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a").write_text("1")
    (target / "of the user").write_text("keep")
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "b").write_text("2")
        raise RuntimeError
    assert entries(tmp_path) == ["build", "build/of the user", "build/sub", "build/sub/a"]
    with atomic_folder(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a").write_text("3")
    assert (target / "sub" / "a").read_text() == "3"
    assert (target / "of the user").read_text() == "keep"


def test_an_empty_folder_is_replaced_at_once_with_empty_folders_and_all(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with atomic_folder(tmp_path / "data") as temporary:
        (temporary / "word").mkdir()
        made = temporary.stat().st_ino
    assert (tmp_path / "data").stat().st_ino == made
    assert entries(tmp_path) == ["data", "data/word"]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(KwsError, match="taken"):
        make_folder(tmp_path / "taken")
    with pytest.raises(KwsError, match="taken"):
        make_folder(tmp_path / "taken" / "below")


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"accuracy": float("nan")})
    assert entries(tmp_path) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"model")
    write_manifest(tmp_path, {"labels": ["نعم"]}, ["model.onnx"])
    return tmp_path


def test_the_manifest_describes_what_it_lies_beside(folder: Path) -> None:
    manifest = read_manifest(folder, verify=["model.onnx"])
    assert manifest["labels"] == ["نعم"]
    assert manifest["files"]["model.onnx"]["bytes"] == 5
    assert manifest["versions"]["torch"].startswith("2.11")


def test_a_changed_a_missing_and_an_undescribed_file_are_caught(folder: Path) -> None:
    (folder / "other").write_text("")
    with pytest.raises(KwsError, match="does not describe other"):
        read_manifest(folder, verify=["other"])
    with pytest.raises(KwsError, match=r"absent: no such file"):
        read_manifest(folder, verify=["absent"])
    (folder / "model.onnx").write_bytes(b"Model")
    with pytest.raises(KwsError, match="differs"):
        read_manifest(folder, verify=["model.onnx"])


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": 99}', "\x00"])
def test_a_manifest_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(KwsError, match=r"manifest\.json"):
        read_manifest(folder, verify=[])


def damage_of(folder: Path, needed: tuple[str, ...] = ("model.onnx",)) -> list[str]:
    return damage(folder, read_json(folder / "manifest.json", "x"), needed)


def test_all_damage_to_a_folder_is_found(folder: Path) -> None:
    assert damage_of(folder) == []
    (folder / "notes.txt").write_text("")
    assert damage_of(folder) == []
    (folder / "model.onnx").write_bytes(b"Model")
    (folder / "old.tflite").write_bytes(b"")
    assert damage_of(folder, ("model.onnx", "checkpoint.pt")) == [
        "manifest.json does not describe checkpoint.pt",
        "model.onnx was changed",
        "old.tflite is of another build",
    ]
    (folder / "model.onnx").unlink()
    assert damage_of(folder) == ["model.onnx is missing", "old.tflite is of another build"]


@pytest.mark.parametrize("key", ["schema", "versions", "labels", "files", "sha256", "of no one"])
def test_a_manifest_with_any_other_value_is_found(folder: Path, key: str) -> None:
    manifest = read_json(folder / "manifest.json", "x")
    write_json(folder / "manifest.json", dict(reversed(manifest.items())))
    assert damage_of(folder) == []
    for changed in (manifest | {key: "other"}, {name: value for name, value in manifest.items() if name != key}):
        if changed != manifest:
            write_json(folder / "manifest.json", changed)
            assert "manifest.json was changed" in damage_of(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "sub/x", "..", "", "a\0b", "\x1b[2Jx"])
def test_a_manifest_names_files_beside_it_only_and_cannot_steer_the_terminal(folder: Path, name: str) -> None:
    manifest = read_json(folder / "manifest.json", "x")
    manifest["files"][name] = {"bytes": 5, "sha256": manifest["files"]["model.onnx"]["sha256"]}
    write_json(folder / "manifest.json", manifest)
    found = damage_of(folder)
    assert len(found) == 2
    assert all(phrase.isprintable() for phrase in found)


def test_a_file_in_another_folder_is_none_of_a_manifest(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "model.onnx").write_bytes(b"model")
    write_manifest(folder, {}, ["model.onnx", "sub/model.onnx"])
    assert damage_of(folder) == ["manifest.json describes sub/model.onnx, which is no file of it"]
