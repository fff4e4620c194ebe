"""Log-mel features: the one definition that training, calibration, live detection and the C front end share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from kws.audio import Pcm, to_float
from kws.config import FeatureConfig

# So many that what is computed of them stays in a core's cache.
CLIPS_AT_ONCE = 12


class LogMel(nn.Module):
    """float32 samples (..., n) in -1..1 -> float32 log-mel (..., mel_bands, frames).

    Frame i is samples[i * hop : i * hop + window], times a periodic Hann window, zero-padded to fft_size;
    power spectrum; mel weights (HTK scale, peak 1, not normalised); natural log of (energy + log_offset).
    Nothing outside the given samples is looked at: n samples give 1 + (n - window) // hop frames.
    """

    window: Tensor
    mel_weights: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        tables = FeatureTables.of(config)
        self.margin = config.fft_size - config.window_samples
        window = nn.functional.pad(torch.from_numpy(tables.window), (0, self.margin))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel_weights", torch.from_numpy(tables.mel_weights), persistent=False)

    @torch.no_grad()
    def forward(self, samples: Tensor) -> Tensor:
        padded = nn.functional.pad(samples, (0, self.margin))
        frames = padded.unfold(-1, self.config.fft_size, self.config.hop_samples)
        spectrum = torch.fft.rfft(frames * self.window)
        real, imaginary = torch.view_as_real(spectrum).square_().unbind(-1)
        energy = (real + imaginary) @ self.mel_weights
        return torch.log(energy + self.config.log_offset).transpose(-1, -2).contiguous()

    def in_parts(self, samples: Tensor) -> Tensor:
        """The same of (n, samples), faster for many clips on a CPU."""
        at_once = CLIPS_AT_ONCE if samples.device.type == "cpu" else len(samples)
        return torch.cat([self(part) for part in torch.split(samples, at_once)])


def features_of_clips(pcm: Pcm, config: FeatureConfig) -> npt.NDArray[np.float32]:
    """int16 (n, samples) -> float32 log-mel (n, 1, mel_bands, frames), the network's input."""
    log_mel = LogMel(config)
    starts = range(0, len(pcm), CLIPS_AT_ONCE)
    parts = [log_mel(torch.from_numpy(to_float(pcm[start : start + CLIPS_AT_ONCE]))) for start in starts]
    features: npt.NDArray[np.float32] = torch.cat(parts).unsqueeze(1).numpy()
    return features


@dataclass(frozen=True, kw_only=True)
class FeatureTables:
    """The constants of the front end, float32: `window` (window_samples,), `mel_weights` (fft_bins, mel_bands)."""

    window: npt.NDArray[np.float32]
    mel_weights: npt.NDArray[np.float32]

    @staticmethod
    def of(config: FeatureConfig) -> FeatureTables:
        window = torch.hann_window(config.window_samples, periodic=True, dtype=torch.float64)
        mel_weights = melscale_fbanks(
            n_freqs=config.fft_bins,
            f_min=config.mel_low_hz,
            f_max=config.mel_high_hz,
            n_mels=config.mel_bands,
            sample_rate=config.sample_rate_hz,
            norm=None,
            mel_scale="htk",
        )
        return FeatureTables(window=window.to(torch.float32).numpy(), mel_weights=mel_weights.numpy())
