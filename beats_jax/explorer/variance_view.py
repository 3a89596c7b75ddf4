"""How much of the vectors' variance their principal components hold."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from beats_jax.explorer.colours import PALETTE
from beats_jax.explorer.session import Page

SHARES = (0.5, 0.9)


def show(page: Page) -> None:
    """Draws the view."""
    words, explained = page.words, page.collection.principal.explained
    if not explained.any():
        st.info(words("no_variance"))
        return
    number, total = np.arange(1, len(explained) + 1), np.cumsum(explained)
    figure = go.Figure(
        [
            go.Bar(x=number, y=explained, name=words("variance_each"), marker_color=PALETTE[0]),
            go.Scatter(x=number, y=total, name=words("variance_together"), marker_color=PALETTE[1], mode="lines+markers"),
        ]
    )
    figure.update_layout(
        height=420,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        xaxis_title=words("component"),
        yaxis={"title": {"text": words("variance")}, "tickformat": ".0%", "range": [0, 1.02]},
        legend={"orientation": "h", "y": -0.2},
    )
    st.plotly_chart(figure, key="variance", config={"displayModeBar": False})
    for share in SHARES:
        reached = np.flatnonzero(total >= share - 1e-6)
        count = str(int(reached[0]) + 1) if len(reached) else words("more_than", count=len(total))
        st.caption(words("variance_reached", count=count, share=f"{share:.0%}", width=page.collection.vectors.shape[1]))
