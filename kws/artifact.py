"""Files that a stage hands to the next: written whole or not at all, and described by a manifest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from kws import __version__
from kws.errors import KwsError
from kws.terminal import visible

MANIFEST_NAME = "manifest.json"
MANIFEST_SCHEMA = 1
# A file of these kinds that a manifest does not name is left over from something else.
_MODEL_SUFFIXES = (".onnx", ".tflite", ".pt")


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def make_folder(path: Path) -> None:
    """Create `path` and its parents.

    Raises KwsError if a file is in the way or the folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise KwsError(f"{path}: cannot write here ({error.strerror}); choose another output folder.") from error


def check_new_folder(path: Path) -> None:
    """Raise KwsError unless `path` is free: it does not exist, or is an empty folder."""
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise KwsError(f"{path}: exists already; choose a new or empty folder, so that data sets do not mix.")
    except OSError as error:
        raise KwsError(f"{path}: cannot be looked at ({error.strerror}); choose another output folder.") from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on any failure it is removed."""
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success its files replace those of the same name in `path`.

    Other files that `path` already holds stay. On any failure `path` is as it was.
    """
    make_folder(path.parent)
    if path.exists():
        make_folder(path)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        with contextlib.suppress(OSError):  # A folder with files, or a mount point, cannot be replaced at once.
            temporary.rename(path)
            return
        for source in sorted(entry for entry in temporary.rglob("*") if entry.is_file()):
            target = path / source.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON. NaN and infinity are refused (ValueError): they are not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object; raises KwsError, ending in `remedy`, if it is missing or no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise KwsError(f"{path}: no such file; {remedy}.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise KwsError(f"{path}: cannot be read as JSON; {remedy}.") from error
    if not isinstance(value, dict):
        raise KwsError(f"{path}: holds no JSON object; {remedy}.")
    return value


def tool_versions() -> dict[str, str]:
    """Versions of kws and of the packages whose behaviour an artifact depends on."""
    packages = ("torch", "onnx", "onnxruntime", "tensorflow", "tflite-micro", "numpy")
    return {"kws": __version__} | {name: metadata.version(name) for name in packages}


def write_manifest(folder: Path, fields: dict[str, Any], files: list[str]) -> None:
    """Write `folder`/manifest.json: `fields`, tool versions, size and sha256 of each of `files`, and its own sha256."""
    described = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)} for name in sorted(files)
    }
    manifest = {"schema": MANIFEST_SCHEMA, "versions": tool_versions()} | fields | {"files": described}
    write_json(folder / MANIFEST_NAME, manifest | {"sha256": _content_sha256(manifest)})


def read_manifest(folder: Path, verify: list[str]) -> dict[str, Any]:
    """Read `folder`/manifest.json and compare the sha256 of each file in `verify` with what it says.

    Raises KwsError if the manifest is missing, of another version, or a file is missing or was changed.
    """
    remedy = "run kws quantize again"
    path = folder / MANIFEST_NAME
    manifest = read_json(path, remedy)
    if manifest.get("schema") != MANIFEST_SCHEMA:
        raise KwsError(f"{path}: was written by another version of kws; {remedy}.")
    files = manifest.get("files")
    for name in verify:
        file = folder / name
        if not file.is_file():
            raise KwsError(f"{file}: no such file; {remedy}.")
        if not isinstance(files, dict) or not isinstance(files.get(name), dict):
            raise KwsError(f"{path}: does not describe {name}; {remedy}.")
        if files[name].get("sha256") != sha256_file(file):
            raise KwsError(f"{file}: differs from what {MANIFEST_NAME} beside it describes; {remedy}.")
    return manifest


def damage(folder: Path, manifest: Mapping[str, Any], needed: Sequence[str]) -> list[str]:
    """What speaks against the files of `folder` being those that its `manifest` was written for, a phrase each.

    Files in `needed` must be described; model files that are not described are left over from something else.
    """
    found = []
    described = manifest.get("files")
    files = described if isinstance(described, dict) else {}
    if manifest.get("sha256") != _content_sha256({key: value for key, value in manifest.items() if key != "sha256"}):
        found.append(f"{MANIFEST_NAME} was changed")
    found += [f"{MANIFEST_NAME} does not describe {name}" for name in needed if name not in files]
    for name, facts in files.items():
        file = folder / name
        if Path(name).name != name or not isinstance(facts, dict):
            found.append(f"{MANIFEST_NAME} describes {visible(name)}, which is no file of it")
        elif not file.is_file():
            found.append(f"{visible(name)} is missing")
        elif facts.get("sha256") != sha256_file(file):
            found.append(f"{visible(name)} was changed")
    models = sorted(path.name for path in folder.iterdir() if path.suffix in _MODEL_SUFFIXES)
    return found + [f"{visible(name)} is of another build" for name in models if name not in files]


def _content_sha256(manifest: Mapping[str, Any]) -> str:
    """Of the values, however they are laid out in the file."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
