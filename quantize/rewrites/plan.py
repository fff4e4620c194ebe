"""Which of several forms that compute the same a model takes on the device: what `--optimize` decides about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A depthwise convolution whose norm differs from band to band becomes one convolution for each row if it has at
    most `single_rows` rows, else one for each band; only single rows take a broadcast sum in. Single rows of at most
    `multiplied_rows` become one convolution again when lowered, but for those beyond the last multiple of
    `rows_together`: 4 is fast, 1 is small (see `export.multiplied_rows`).

    `stripes` is in how many parts the widest maps are computed. `mean_as_convolution` is about the mean over time: a
    convolution with equal weights in place of MEAN, faster and larger. `swish_tables` makes x * sigmoid(x) a table.
    `shared_scales` lets layers share weight scales, at some loss (see `quantize.shared_scales`).
    `packed_memory` orders the ops so that less lives at the same time, and puts a layout of the activations into the
    model, denser than the one TFLM finds; `halved_maps` is how many maps are then computed in halves for that.
    """

    single_rows: int = 5
    multiplied_rows: int = 0
    rows_together: int = 4
    stripes: int = 2
    mean_as_convolution: bool = True
    swish_tables: bool = False
    shared_scales: bool = False
    packed_memory: bool = False
    halved_maps: int = 0
