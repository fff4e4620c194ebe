"""What a user may choose about a conversion; the manifest of a build records it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """`calibration_clips` is how many training clips, or given inputs, set the ranges."""

    calibration_clips: int = 200
