"""Pictures of clips: a spectrogram for the eye, and the input that the model gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from beats_jax.evaluation.report.figures.canvas import new_figure, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS = 96  # an inch: a page may show one picture for every class, and noise compresses badly


@picture("png", DOTS)
def model_input(fbank: np.ndarray) -> Figure:
    """A normalised filterbank, float [F, M], against frames and mel bins, as a small PNG."""
    figure = new_figure(3.6, 1.5)
    axes = figure.add_subplot()
    low, high = np.percentile(fbank, (2, 99.8))
    axes.imshow(fbank.T, origin="lower", aspect="auto", cmap="viridis", vmin=low, vmax=max(high, low + 1e-6))
    _label(axes, "frame", "mel bin")
    return figure


@picture("png", DOTS)
def spectrogram(waveform: np.ndarray, sample_rate: int) -> Figure:
    """Mel spectrogram in dB below its peak (range 80 dB) against seconds and Hz, as PNG. waveform: float [samples]."""
    import librosa
    from matplotlib.ticker import FixedLocator, FuncFormatter

    # Windows are shorter at low rates. At rates of ultrasound the picture starts at 10 kHz: lower bands would hold no FFT bin.
    window, lowest_hz = 1024 if sample_rate >= 8000 else 256, 20 if sample_rate <= 100_000 else 10_000
    waveform = np.pad(np.asarray(waveform, np.float32), (0, max(0, window - len(waveform))))
    hop = max(window // 8, len(waveform) // 800)
    bands = 96 if sample_rate >= 16_000 else 64
    mel = librosa.feature.melspectrogram(y=waveform, sr=sample_rate, n_fft=window, hop_length=hop, n_mels=bands, fmin=lowest_hz)
    decibels = librosa.power_to_db(mel, ref=max(float(mel.max()), 1e-10), top_db=80)
    ticks_hz = [hz for hz in (100, 200, *(500 * 2**n for n in range(9))) if lowest_hz <= hz <= sample_rate / 2]
    lowest, highest = (float(librosa.hz_to_mel(hz)) for hz in (lowest_hz, sample_rate / 2))
    figure = new_figure(3.6, 1.9)
    axes = figure.add_subplot()
    extent = (0, len(waveform) / sample_rate, lowest, highest)
    axes.imshow(decibels, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-80, vmax=0)
    axes.yaxis.set_major_locator(FixedLocator([float(librosa.hz_to_mel(hz)) for hz in ticks_hz]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda mels, _: f"{librosa.mel_to_hz(mels):.0f}"))
    _label(axes, "s", "Hz")
    return figure


def _label(axes: Axes, x: str, y: str) -> None:
    axes.tick_params(labelsize=7)
    axes.set_xlabel(x, fontsize=7)
    axes.set_ylabel(y, fontsize=7)
