"""Pictures of a report, each as a data URI (PNG for spectrograms, SVG for the rest), drawn with matplotlib's object API.

No pyplot, no global state: figures are made on the Agg canvas and settings hold inside `rc_context` only. Colours are those of
Okabe & Ito (2008), which readers with colour-blindness tell apart; images use one-hue or perceptually even maps.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.evaluation.metrics.calibration import Reliability
from beats_jax.evaluation.metrics.comparison import Difference
from beats_jax.evaluation.metrics.result import ClassResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6B7280"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#E69F00", "#332288", "#882255", GREY)
INK, FAINT = "#1F2933", "#E3E7EB"
SPECTROGRAM_DOTS = 96  # an inch: there may be one for every class, and noise packs badly
ANNOTATED_CLASSES = 12  # confusion cells carry numbers up to this many classes
STYLE: Any = {
    "font.family": "sans-serif",  # DejaVu Sans, which ships with matplotlib
    "svg.fonttype": "none",  # text stays text: the browser has glyphs for scripts that DejaVu lacks
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9AA5B1",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "beats_jax",  # else ids in the SVG change from run to run
}


def new_figure(width: float, height: float) -> Figure:
    """A white figure of this many inches on the Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def data_uri(figure: Figure, kind: str, dots_per_inch: int = 150) -> str:
    """The figure as `data:image/...;base64,...`; the same figure gives the same bytes."""
    stream = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # said of the layout; the browser draws the text
        figure.savefig(stream, format=kind, dpi=dots_per_inch, metadata=metadata)
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return f"data:{mime};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def shorten(name: str, limit: int = 24) -> str:
    """A label of at most `limit` characters, safe from matplotlib's reading of `$` as mathematics."""
    cut = name if len(name) <= limit else name[: limit - 1] + "…"
    return cut.replace("$", r"\$")


def confusion_pictures(confusion: np.ndarray, class_names: Sequence[str]) -> str:
    """Raw counts and row shares side by side (many classes: one below the other), as SVG. confusion: int [C, C], row = true,
    column = predicted."""
    import matplotlib

    num_classes = len(class_names)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    side = float(np.clip(0.42 * num_classes, 3.4, 9.5))
    stacked = num_classes > ANNOTATED_CLASSES  # two wide matrices are readable one below the other only
    label_room = 0.075 * max((len(shorten(name)) for name in class_names), default=0)
    width, height = side + label_room + 0.9, side + label_room + 0.5
    with matplotlib.rc_context(STYLE):
        figure = new_figure(width if stacked else 2 * width, 2 * height if stacked else height)
        shape = (2, 1) if stacked else (1, 2)
        for position, (title, values, text) in enumerate(
            (("Examples", confusion, "{:.0f}"), ("Share of the true class", shares, "{:.2f}")), start=1
        ):
            axes = figure.add_subplot(*shape, position)
            _draw_matrix(figure, axes, values, class_names, text, highest=1.0 if position == 2 else None)
            axes.set_title(title)
        return data_uri(figure, "svg")


def _draw_matrix(
    figure: Figure, axes: Axes, values: np.ndarray, class_names: Sequence[str], text: str, highest: float | None
) -> None:
    """One confusion matrix; cells carry numbers where there is room."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import MaxNLocator

    num_classes = len(class_names)
    top = highest or max(float(values.max(initial=0)), 1.0)
    shades = colormaps["Blues"](np.linspace(0.15, 1, 256))  # from a visible shade on: a single confusion must not look like none
    drawn = np.ma.masked_equal(values, 0)
    image = axes.imshow(drawn, cmap=ListedColormap(shades), vmin=0, vmax=top, interpolation="nearest")
    names = [shorten(name) for name in class_names]
    size = 8 if num_classes <= 25 else 6.5
    axes.set_xticks(range(num_classes), names, rotation=90 if num_classes > 6 else 40, fontsize=size)
    if num_classes <= 6:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(num_classes), names, fontsize=size)
    axes.set_xticks(np.arange(num_classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(num_classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted", ylabel="true")
    if num_classes <= ANNOTATED_CLASSES:
        for row, column in np.ndindex(values.shape):
            value = values[row, column]
            if value > 0:
                color = "white" if value > 0.55 * top else INK
                axes.text(column, row, text.format(value), ha="center", va="center", fontsize=8, color=color)
    else:
        figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, ticks=MaxNLocator(8, integer=highest is None))


def class_bars(classes: Sequence[ClassResult]) -> str:
    """F1 and recall per class with their intervals, worst F1 at the bottom; as SVG."""
    import matplotlib

    def key(found: ClassResult) -> float:
        return -1.0 if found.f1.value is None else found.f1.value

    ordered = sorted(classes, key=key)
    places = np.arange(len(ordered))
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8, max(1.8, 0.9 + 0.3 * len(ordered)))
        axes = figure.add_subplot()
        for attribute, label, color, shift in (("f1", "F1", BLUE, 0.16), ("recall", "recall", ORANGE, -0.16)):
            for place, found in zip(places, ordered, strict=True):
                estimate = getattr(found, attribute)
                if estimate.value is None:
                    continue
                if estimate.low is not None:
                    axes.hlines(place + shift, estimate.low, estimate.high, color=color, linewidth=2.2, alpha=0.45)
                axes.plot(
                    estimate.value, place + shift, "o", color=color, markersize=5, markeredgecolor="white", markeredgewidth=0.5
                )
            axes.plot([], [], "o-", color=color, label=label, markersize=5)
        axes.set_yticks(places, [f"{shorten(found.name)}  ({found.n})" for found in ordered])
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(ordered) - 0.4))
        axes.grid(True, axis="x")
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper right", ncols=2)
        return data_uri(figure, "svg")


def class_balance(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Examples per class in each split, as stacked bars, most frequent first; as SVG. counts: split -> class -> number."""
    import matplotlib

    totals: dict[str, int] = {}
    for numbers in counts.values():
        for name, number in numbers.items():
            totals[name] = totals.get(name, 0) + number
    names = sorted(totals, key=lambda name: totals[name])
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8, max(1.6, 0.8 + 0.24 * len(names)))
        axes = figure.add_subplot()
        left = np.zeros(len(names))
        for color, (split, numbers) in zip((BLUE, "#56B4E9", ORANGE, GREEN, PURPLE, GREY), counts.items(), strict=False):
            values = np.array([numbers.get(name, 0) for name in names])
            axes.barh(range(len(names)), values, left=left, height=0.7, color=color, edgecolor="white", label=shorten(split))
            left = left + values
        for place, name in enumerate(names):
            axes.annotate(str(totals[name]), (totals[name], place), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(names)), [shorten(name) for name in names])
        axes.set(xlabel="examples")
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        axes.grid(True, axis="x")
        figure.legend(loc="outside upper right", ncols=len(counts))
        return data_uri(figure, "svg")


def differences(changes: Mapping[str, Difference]) -> str:
    """Differences of a metric with their intervals, a class a line, the largest gain on top; undefined ones left out."""
    import matplotlib

    known = sorted(
        ((name, change) for name, change in changes.items() if change.difference is not None),
        key=lambda pair: pair[1].difference or 0.0,
    )
    with matplotlib.rc_context(STYLE):
        figure = new_figure(6.4, 1.0 + 0.22 * max(1, len(known)))
        axes = figure.add_subplot()
        axes.axvline(0, color=GREY, linewidth=1)
        for place, (_, change) in enumerate(known):
            sure = change.low is not None and change.high is not None and change.low * change.high > 0
            color = BLUE if sure else GREY
            if change.low is not None and change.high is not None:
                axes.plot([change.low, change.high], [place, place], color=color, linewidth=2)
            axes.plot([change.difference or 0.0], [place], color=color, marker="o", markersize=5)
        axes.set_yticks(range(len(known)), [shorten(name) for name, _ in known])
        axes.set(xlabel="difference in F1 (blue: the interval leaves out 0)")
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x")
        return data_uri(figure, "svg")


def reliability(tables: Mapping[str, Reliability]) -> str:
    """Share that is right against confidence, a line for each table, over bars of how many examples each bin holds."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = new_figure(4.6, 3.6)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        for color, (name, found) in zip(PALETTE, tables.items(), strict=False):
            share = found.counts / max(1, found.counts.sum())
            axes.bar(found.edges[:-1], share, np.diff(found.edges), align="edge", color=color, alpha=0.15)
            filled = found.counts > 0
            points = found.confidence[filled], found.outcome[filled]
            axes.plot(*points, color=color, marker="o", markersize=4, label=shorten(name, 40))
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right")
        axes.grid(True)
        figure.legend(loc="outside upper right", ncols=len(tables))
        return data_uri(figure, "svg")


def model_input(fbank: np.ndarray) -> str:
    """A normalised filterbank, float [F, M], against frames and mel bins, as a small PNG."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = new_figure(3.6, 1.5)
        axes = figure.add_subplot()
        low, high = np.percentile(fbank, (2, 99.8))
        axes.imshow(fbank.T, origin="lower", aspect="auto", cmap="viridis", vmin=low, vmax=max(high, low + 1e-6))
        axes.tick_params(labelsize=7)
        axes.set_xlabel("frame", fontsize=7)
        axes.set_ylabel("mel bin", fontsize=7)
        return data_uri(figure, "png", SPECTROGRAM_DOTS)


def spectrogram(waveform: np.ndarray, sample_rate: int) -> str:
    """Mel spectrogram in dB below its peak against seconds and Hz, as PNG. waveform: float [samples].

    Made for the eye (librosa, 80 dB range); the model's own input is `audio.filterbank`. Windows are shorter at low rates, and at
    rates of ultrasound the picture starts at 10 kHz: else its lowest bands would hold no bin of the FFT.
    """
    import librosa
    import matplotlib
    from matplotlib.ticker import FixedLocator, FuncFormatter

    window, lowest_hz = 1024 if sample_rate >= 8000 else 256, 20 if sample_rate <= 100_000 else 10_000
    waveform = np.pad(np.asarray(waveform, np.float32), (0, max(0, window - len(waveform))))
    hop = max(window // 8, len(waveform) // 800)
    bands = 96 if sample_rate >= 16_000 else 64
    mel = librosa.feature.melspectrogram(y=waveform, sr=sample_rate, n_fft=window, hop_length=hop, n_mels=bands, fmin=lowest_hz)
    decibels = librosa.power_to_db(mel, ref=max(float(mel.max()), 1e-10), top_db=80)
    ticks_hz = [hz for hz in (100, 200, *(500 * 2**n for n in range(9))) if lowest_hz <= hz <= sample_rate / 2]
    lowest, highest = (float(librosa.hz_to_mel(hz)) for hz in (lowest_hz, sample_rate / 2))
    with matplotlib.rc_context(STYLE):
        figure = new_figure(3.6, 1.9)
        axes = figure.add_subplot()
        extent = (0, len(waveform) / sample_rate, lowest, highest)
        axes.imshow(decibels, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-80, vmax=0)
        axes.yaxis.set_major_locator(FixedLocator([float(librosa.hz_to_mel(hz)) for hz in ticks_hz]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda mels, _: f"{librosa.mel_to_hz(mels):.0f}"))
        axes.tick_params(labelsize=7)
        axes.set_xlabel("s", fontsize=7)
        axes.set_ylabel("Hz", fontsize=7)
        return data_uri(figure, "png", SPECTROGRAM_DOTS)


def score_map(
    scores: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    marked: tuple[int, int],
    label: str,
    limits: tuple[float, float],
) -> str:
    """A table of scores as a heat map with its numbers, the chosen cell framed; as SVG.

    Args:
      scores: float [rows, columns]. label: what they are. limits: the scores at both ends of the colours.
    """
    import matplotlib
    from matplotlib.patches import Rectangle

    low, high = limits
    with matplotlib.rc_context(STYLE):
        figure = new_figure(1.9 + 0.62 * len(columns), 1.1 + 0.27 * len(rows))
        axes = figure.add_subplot()
        image = axes.imshow(scores, cmap="viridis", vmin=low, vmax=max(high, low + 0.01), aspect="auto", origin="lower")
        for row, column in np.ndindex(scores.shape):
            dark = scores[row, column] < low + 0.6 * max(high - low, 0.01)
            color = "white" if dark else INK
            axes.text(column, row, f"{scores[row, column]:.2f}", ha="center", va="center", fontsize=8, color=color)
        axes.add_patch(Rectangle((marked[1] - 0.5, marked[0] - 0.5), 1, 1, fill=False, edgecolor=ORANGE, linewidth=2.4))
        axes.set_xticks(range(len(columns)), [shorten(name) for name in columns])
        axes.set_yticks(range(len(rows)), [shorten(name) for name in rows])
        axes.set(xlabel="pooling", ylabel="layer")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label=label, aspect=25)
        return data_uri(figure, "svg")
