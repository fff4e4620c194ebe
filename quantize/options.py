"""What a user may choose about a conversion; the manifest of a build records it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantize.affine import StepType


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """`calibration_clips` is how many training clips, or given inputs, set the ranges.

    `activations` is what the device computes with between input and output; weights are int8 either way.
    """

    calibration_clips: int = 200
    activations: StepType = "int8"
