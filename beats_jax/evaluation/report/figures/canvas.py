"""How every picture is drawn: with matplotlib's object API, never pyplot, and settings that hold inside one call only.

Colours are those of Okabe & Ito (2008), which colour-blind readers can distinguish; images use one-hue or perceptually even maps.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")
BLUE, ORANGE, GREEN, PURPLE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#6B7280"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, "#E69F00", "#332288", "#882255", GREY)
INK, FAINT = "#1F2933", "#E3E7EB"
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
    "svg.hashsalt": "beats_jax",  # otherwise ids in the SVG change from run to run
}


def new_figure(width: float, height: float) -> Figure:
    """A white figure of this many inches on the Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def picture(kind: Literal["svg", "png"] = "svg", dots_per_inch: int = 150) -> Callable[[Callable[P, Figure]], Callable[P, str]]:
    """Makes a function that draws a figure return it as `data:image/...;base64,...`, drawn and saved under `STYLE`."""

    def decorate(draw: Callable[P, Figure]) -> Callable[P, str]:
        @wraps(draw)
        def draw_uri(*args: P.args, **kwargs: P.kwargs) -> str:
            import matplotlib

            with matplotlib.rc_context(STYLE):
                return _data_uri(draw(*args, **kwargs), kind, dots_per_inch)

        return draw_uri

    return decorate


def shorten(name: str, limit: int = 24) -> str:
    """A label of at most `limit` characters, safe from matplotlib's reading of `$` as mathematics."""
    cut = name if len(name) <= limit else name[: limit - 1] + "…"
    return cut.replace("$", r"\$")


def _data_uri(figure: Figure, kind: str, dots_per_inch: int) -> str:
    stream = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with warnings.catch_warnings():
        # Only the layout lacks the glyph: the browser draws the text of an SVG with its own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(stream, format=kind, dpi=dots_per_inch, metadata=metadata)
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return f"data:{mime};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
