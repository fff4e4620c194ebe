"""export.to_onnx: the same function, in a small, silent, reproducible file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks import randomise
from torch import Tensor, nn

from export.to_onnx import to_onnx
from kws.config import ModelConfig
from kws.errors import KwsError
from kws.model import BCResNet
from quantize.compare import check_export, require

SHAPE = (1, 1, 40, 24)


@pytest.fixture(scope="module")
def network() -> BCResNet:
    return randomise(BCResNet(ModelConfig(classes=4)), seed=1).train()


@pytest.fixture(scope="module")
def exported(network: BCResNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "float.onnx"
    to_onnx(network, SHAPE, path)
    return path


def test_onnx_computes_what_torch_computes_in_evaluation_mode(network: BCResNet, exported: Path) -> None:
    clip = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    logits = onnxruntime.InferenceSession(exported).run(["logits"], {"log_mel": clip})[0]
    assert network.training, "exporting must not change the mode of the model"
    evaluated = BCResNet(ModelConfig(classes=4)).eval()
    evaluated.load_state_dict(network.state_dict())
    with torch.no_grad():
        require(check_export(evaluated(torch.from_numpy(clip)).numpy(), logits))


def test_input_and_output_are_static_and_named(exported: Path) -> None:
    graph = onnx.load(exported).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {"log_mel": list(SHAPE), "logits": [1, 4]}


def test_file_is_self_contained_and_tells_nothing_of_this_machine(exported: Path) -> None:
    content = exported.read_bytes()
    assert [path.name for path in exported.parent.iterdir()] == ["float.onnx"]
    for trace in (b".py", str(Path.cwd()).encode(), str(Path(torch.__file__).parent).encode(), b"stack_trace"):
        assert trace not in content
    model = onnx.load(exported)
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


@pytest.mark.slow
def test_same_network_gives_the_same_bytes_and_nothing_on_the_terminal(
    network: BCResNet, exported: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pt"
    torch.save(network.state_dict(), weights)
    script = (
        "import sys, pathlib, torch; from export.to_onnx import to_onnx; from kws.model import BCResNet; "
        "from kws.config import ModelConfig; model = BCResNet(ModelConfig(classes=4)); "
        "model.load_state_dict(torch.load(sys.argv[1])); "
        f"to_onnx(model, {SHAPE}, pathlib.Path(sys.argv[2]))"
    )
    again = tmp_path / "again.onnx"
    result = subprocess.run([sys.executable, "-c", script, weights, again], capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert again.read_bytes() == exported.read_bytes()


class DependsOnData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_model_that_cannot_be_exported_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"float\.onnx: torch cannot export DependsOnData"):
        to_onnx(DependsOnData(), (1, 2), tmp_path / "float.onnx")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KwsError, match="cannot write here"):
        to_onnx(nn.ReLU(), (1, 2), tmp_path / "file" / "float.onnx")
