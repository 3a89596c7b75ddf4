"""Sound to images that generators learn, and images to sound again (Griffin & Lim 1984).

    waveforms [N, S] ─windowed Fourier transform→ power ─(mel bands)→ dB [N, bands, frames]
    dB ─(mel bands to bins)→ magnitude ─Griffin-Lim→ waveforms [N, S]

Frame t is centred on the middle of hop t, so that `frames` hops cover the window and nothing is stretched. 0 dB is a sine of
amplitude 1.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from beats_jax.config import ImageConfig
from beats_jax.config.rules import require

MOMENTUM = 0.99  # of fast Griffin-Lim (Perraudin, Balazs & Sondergaard 2013)
AT_ONCE = 64  # waveforms whose spectra are in memory


@dataclass(frozen=True)
class Transform:
    """From windows of `samples` at `sample_rate` Hz to images and back.

    Raises:
      UserError: more bands than the transform has bins, or frequencies beyond half the sample rate.
    """

    config: ImageConfig
    sample_rate: int
    samples: int

    def __post_init__(self) -> None:
        config, half = self.config, self.sample_rate / 2
        require(self.samples >= config.frames, f"a window of {self.samples} samples cannot have {config.frames} frames")
        for name in ("low_hz", "high_hz"):
            value = getattr(config, name)
            require(value < half or value == half == config.high_hz, f"objective.image.{name} {value:g} is not below {half:g} Hz")
        bins = self.size // 2 + 1 - self.first_bin
        require(
            config.scale == "mel" or config.bands <= bins,
            f"objective.image.bands is {config.bands}, but the transform of {self.size} samples has {bins} bins from "
            f"{config.low_hz:g} Hz up; take fewer bands, fewer frames, a larger overlap, or objective.image.scale 'mel'",
        )
        require(
            config.scale == "linear" or config.high_hz == 0 or config.low_hz < config.high_hz,
            f"objective.image.low_hz {config.low_hz:g} is not below high_hz {config.high_hz:g}",
        )

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return math.ceil(self.samples / self.config.frames)

    @property
    def size(self) -> int:
        """Samples of a transform, even."""
        return self.hop * self.config.overlap // 2 * 2

    @property
    def first_bin(self) -> int:
        """The lowest bin that is in the image."""
        return round(self.config.low_hz * self.size / self.sample_rate)

    @cached_property
    def window(self) -> np.ndarray:
        """Periodic Hann window, float32 [size]."""
        return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.size) / self.size)).astype(np.float32)

    @cached_property
    def mel(self) -> np.ndarray:
        """float32 [bands, bins]: triangles on Slaney's mel scale that each sum to 1, so that a band is a mean power."""
        import librosa

        low, high = self.config.low_hz, self.config.high_hz or self.sample_rate / 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty bands, which are refused below
            found = librosa.filters.mel(
                sr=self.sample_rate, n_fft=self.size, n_mels=self.config.bands, fmin=low, fmax=high, norm=None, dtype=np.float32
            )
        total = found.sum(axis=1, keepdims=True)
        require(
            bool((total > 0).all()),
            f"{int((total == 0).sum())} of {self.config.bands} mel bands are narrower than a bin; take fewer of them",
        )
        return found / total

    @property
    def hz(self) -> np.ndarray:
        """Centre of each band in Hz, float64 [bands]."""
        bins = np.arange(self.size // 2 + 1) * self.sample_rate / self.size
        if self.config.scale == "linear":
            return bins[self.first_bin : self.first_bin + self.config.bands]
        return self.mel @ bins

    def images(self, waveforms: np.ndarray) -> np.ndarray:
        """Images of waveforms float32 [N, S], S <= `samples` (shorter ones end in silence), in dB, float32 [N, bands, frames]."""
        parts = [self._decibels(waveforms[i : i + AT_ONCE]) for i in range(0, len(waveforms), AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros((0, self.config.bands, self.config.frames), np.float32)

    def waveforms(self, images: np.ndarray, seed: int = 0, iterations: int = 60) -> tuple[np.ndarray, np.ndarray]:
        """Sounds of images in dB, [N, bands, frames]. Frequencies outside the image are silent.

        Returns:
          float32 [N, samples], and the spectral convergence of each: |S - |STFT(sound)|| / |S| over the image, 0 = exact.
        """
        wanted = self._magnitudes(images)
        random = np.random.default_rng(seed)
        phases = np.exp(2j * np.pi * random.random(wanted.shape)).astype(np.complex64)
        before = np.zeros_like(phases)
        for _ in range(iterations):
            rebuilt = self._spectra(self._sound(wanted * phases))
            ahead = rebuilt + MOMENTUM * (rebuilt - before)
            phases, before = ahead / np.maximum(np.abs(ahead), 1e-12), rebuilt
        sounds = self._sound(wanted * phases)
        inside = wanted.any(axis=(0, 1))
        distance = np.linalg.norm((wanted - np.abs(self._spectra(sounds)))[..., inside], axis=(1, 2))
        return sounds[:, : self.samples], distance / np.maximum(np.linalg.norm(wanted, axis=(1, 2)), 1e-12)

    def _decibels(self, waveforms: np.ndarray) -> np.ndarray:
        spectra = np.abs(self._spectra(waveforms)) * (2 / self.window.sum())
        power = np.square(spectra)
        if self.config.scale == "mel":
            power = power @ self.mel.T
        else:
            power = power[..., self.first_bin : self.first_bin + self.config.bands]
        floor = np.float32(self.config.floor_db)
        decibels = 10 * np.log10(np.maximum(power, 10 ** (floor / 10)))
        return np.maximum(decibels.swapaxes(1, 2).astype(np.float32), floor)  # rounded logarithms may lie below it

    def _magnitudes(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, frames, bins] of images; what lies at the floor is silent."""
        power = 10 ** (images.astype(np.float32).swapaxes(1, 2) / 10) * (images.swapaxes(1, 2) > self.config.floor_db)
        if self.config.scale == "mel":
            power = self._bins_of_bands(power)
        else:
            above = self.size // 2 + 1 - self.first_bin - self.config.bands
            power = np.pad(power, ((0, 0), (0, 0), (self.first_bin, above)))
        return np.sqrt(power).astype(np.float32) * (self.window.sum() / 2)

    def _bins_of_bands(self, power: np.ndarray) -> np.ndarray:
        """Non-negative least squares of the mel bands."""
        import librosa

        columns = power.reshape(-1, power.shape[-1]).T
        return np.maximum(librosa.util.nnls(self.mel, columns), 0).T.reshape(*power.shape[:-1], -1)

    def _spectra(self, waveforms: np.ndarray) -> np.ndarray:
        """complex64 [N, frames, bins] of waveforms [N, S]."""
        before, total = (self.size - self.hop) // 2, self.hop * self.config.frames
        padded = np.pad(waveforms[:, :total], ((0, 0), (0, max(0, total - waveforms.shape[1]))))
        padded = np.pad(padded, ((0, 0), (before, self.size - self.hop - before)), mode="reflect")
        framed = np.lib.stride_tricks.sliding_window_view(padded, self.size, axis=1)[:, :: self.hop]
        return np.fft.rfft(framed * self.window).astype(np.complex64)

    def _sound(self, spectra: np.ndarray) -> np.ndarray:
        """The waveforms [N, hop * frames] whose spectra are nearest: overlapped and added, over the window's energy."""
        parts = np.fft.irfft(spectra, self.size).astype(np.float32) * self.window
        before, total = (self.size - self.hop) // 2, self.hop * self.config.frames
        sounds = np.zeros((len(parts), total + self.size - self.hop), np.float32)
        energy = np.zeros(sounds.shape[1], np.float32)
        for frame in range(self.config.frames):
            place = slice(frame * self.hop, frame * self.hop + self.size)
            sounds[:, place] += parts[:, frame]
            energy[place] += np.square(self.window)
        return (sounds / np.maximum(energy, 1e-3))[:, before : before + total]
