"""Pictures of clips: a spectrogram for the eye, and the input that the model gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.evaluation.report.figures.canvas import GREEN, SKY, new_figure, picture

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
    figure = new_figure(3.6, 1.9)
    _draw_mel(figure.add_subplot(), waveform, sample_rate)
    return figure


@picture("png", DOTS)
def regions_on_spectrogram(
    waveform: np.ndarray, sample_rate: int, boxes: np.ndarray, others: np.ndarray | None = None, start_seconds: float = 0.0
) -> Figure:
    """Boxes on a wide mel spectrogram, as PNG.

    Args:
      waveform: float [samples], some seconds of a recording from `start_seconds` on.
      boxes: float [N, 4 or more]: start, end in seconds of the recording, low, high in Hz. others: to compare with, dashed.
    """
    from matplotlib.patches import Rectangle

    figure = new_figure(9.6, 3.2)
    axes = figure.add_subplot()
    mels = _draw_mel(axes, waveform, sample_rate)
    for drawn, color, style in ((others, SKY, "--"), (boxes, GREEN, "-")):
        for start, end, low, high, *_ in [] if drawn is None else np.asarray(drawn).tolist():
            place, height = (start - start_seconds, mels(max(low, 1.0))), mels(high) - mels(max(low, 1.0))
            axes.add_patch(Rectangle(place, end - start, height, fill=False, edgecolor=color, linestyle=style, linewidth=1))
    if start_seconds:
        axes.xaxis.set_major_formatter(lambda second, _: f"{second + start_seconds:g}")
    return figure


def _draw_mel(axes: Axes, waveform: np.ndarray, sample_rate: int) -> Callable[[float], float]:
    """Draws the mel spectrogram, and returns the place on its axis of a frequency in Hz."""
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
    extent = (0, len(waveform) / sample_rate, lowest, highest)
    axes.imshow(decibels, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-80, vmax=0)
    axes.yaxis.set_major_locator(FixedLocator([float(librosa.hz_to_mel(hz)) for hz in ticks_hz]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda mels, _: f"{librosa.mel_to_hz(mels):.0f}"))
    _label(axes, "s", "Hz")
    return lambda hz: float(librosa.hz_to_mel(hz))


def _label(axes: Axes, x: str, y: str) -> None:
    axes.tick_params(labelsize=7)
    axes.set_xlabel(x, fontsize=7)
    axes.set_ylabel(y, fontsize=7)
