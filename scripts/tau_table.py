"""What BC-ResNet of each width costs on a microcontroller, as a Markdown table.

    python -m scripts.tau_table [--optimize GOAL|all]

What a network has learned changes no cost but the file's size, by less than a hundredth: the weights are random, and so
are the few features that set the int8 ranges. The seconds are those of the conversion, without its proofs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from export.arena_32_bit import arena_on
from export.choose import choose_plan
from export.cost_model import estimate_ops, total
from export.device_graph import device_model
from export.tflite_reader import parse_tflite
from export.to_onnx import to_onnx
from kws.config import MODEL_TAUS, FeatureConfig, ModelConfig
from kws.errors import KwsError
from kws.model import BCResNet, count_macs, parameter_count
from kws.progress import note
from quantize.options import GOALS, Goal, QuantizeOptions
from quantize.pipeline import prepare, quantize
from scripts.markdown import table

CLASSES = 12
CALIBRATION_CLIPS = 16
HEADINGS = [
    *("model", "parameters", "MACs", "`--optimize`", "instructions on Cortex-M4", "on Cortex-M55"),
    *("outside the measured shapes", "arena on Cortex-M4, bytes", "`.tflite`, bytes", "seconds"),
]


def random_network(name: str, seed: int) -> BCResNet:
    """A network as alive as a trained one: fresh norms would all do the same, and nothing at all once folded."""
    torch.manual_seed(seed)
    network = BCResNet(ModelConfig(name=name, classes=CLASSES))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            nn.init.normal_(layer.running_mean, 0.0, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0.0, 0.3)
    return network.eval()


def convert(network: BCResNet, seed: int, goal: Goal) -> bytes:
    """The int8 .tflite of `network`, not held against anything. Raises KwsError if it cannot be converted."""
    config, options = FeatureConfig(), QuantizeOptions(optimize=goal)
    shape = (CALIBRATION_CLIPS, 1, config.mel_bands, config.frames)
    features = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        float_model = to_onnx(network, features[:1].shape, Path(folder) / "model.onnx")
    plan = choose_plan(float_model, goal)
    prepared = prepare(float_model, features, options, plan)
    return device_model(quantize(prepared, features, options, plan), plan)


def row(name: str, goal: Goal, seed: int = 0) -> list[str]:
    """The cells under HEADINGS. Raises KwsError if the network cannot be converted."""
    config, network = FeatureConfig(), random_network(name, seed)
    started = time.monotonic()
    model = convert(network, seed, goal)
    seconds = time.monotonic() - started
    facts = parse_tflite(model, name)
    estimates = estimate_ops(facts)
    instructions = total(estimates).instructions
    beyond = total([part for part in estimates if part.is_extrapolated]).instructions
    return [
        name,
        f"{parameter_count(network):,}",
        f"{count_macs(network, config.frames, config.mel_bands) / 1e6:.1f} M",
        goal,
        *[f"{instructions[core] / 1e6:.1f} M" for core in ("cortex_m4", "cortex_m55")],
        f"{beyond['cortex_m4'] / instructions['cortex_m4']:.0%}",
        f"{arena_on('cortex_m4', facts).needed:,}",
        f"{len(model):,}",
        f"{seconds:.0f}",
    ]


def tau_table(names: Sequence[str], goals: Sequence[Goal]) -> str:
    rows = []
    for name in names:
        for goal in goals:
            note(f"{name}, {goal}")
            rows.append(row(name, goal))
    return table(HEADINGS, rows)


def main() -> int:
    default = QuantizeOptions().optimize
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--optimize", choices=[*GOALS, "all"], default=default, help=f"as of kws quantize (default: {default})"
    )
    chosen = parser.parse_args().optimize
    try:
        print(tau_table(list(MODEL_TAUS), [goal for goal in GOALS if chosen in (goal, "all")]))
    except KwsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
