"""Learning curves of a run; and, where the page was started with --training, a training that is started and watched here."""

from __future__ import annotations

import shlex
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st

from beats_jax.command_line import config_names
from beats_jax.errors import UserError
from beats_jax.explorer.colours import PALETTE
from beats_jax.explorer.session import Page, plain, setting
from beats_jax.pipelines.exploring.runs import Training, TrainingRequest, learning_curves

REFRESH_SECONDS = 2.0
FIRST_METRIC = "loss"


def show(page: Page) -> None:
    """Draws the view."""
    words = page.words
    if page.given.run:
        st.subheader(words("curves_of", run=plain(page.given.run)))
        curves(page, Path(page.given.run), "given")
    if page.given.training:
        _training(page)
    elif not page.given.run:
        st.info(words("no_run"))


def curves(page: Page, run: Path, key: str) -> None:
    """The curves of a run: a picture of one metric, which is chosen."""
    table = learning_curves(run)
    if table.empty:
        st.caption(page.words("no_curves"))
        return
    metrics = sorted(table["metric"].unique(), key=lambda name: (name != FIRST_METRIC, name))
    metric = st.selectbox(page.words("metric"), metrics, key=setting(f"metric_{key}", metrics[0]))
    figure = go.Figure()
    for number, (split, rows) in enumerate(table[table["metric"] == metric].groupby("split")):
        figure.add_trace(
            go.Scatter(x=rows["step"], y=rows["value"], name=str(split), mode="lines+markers", line_color=PALETTE[number])
        )
    figure.update_layout(
        height=340, margin={"l": 0, "r": 0, "t": 8, "b": 0}, xaxis_title=page.words("step"), yaxis_title=metric, showlegend=True
    )
    st.plotly_chart(figure, key=f"curves_{key}", config={"displayModeBar": False})


def _training(page: Page) -> None:
    words = page.words
    st.subheader(words("training"))
    with st.form("training"):
        config = st.selectbox(words("recipe"), config_names(), key=setting("recipe", "small"))
        name = st.text_input(words("run_name"), key=setting("run_name", "first"))
        table = page.collection.label_table.path
        sources = (["given_labels"] if table.is_file() else []) + (["class_folders"] if _has_classes(page) else [])
        source = st.selectbox(words("train_on"), sources, format_func=words)
        steps = st.number_input(words("most_steps"), 0, 1_000_000, step=100, key=setting("most_steps", 0))
        if st.form_submit_button(words("start_training"), type="primary", disabled=not sources):
            labels = str(table) if source == "given_labels" else ""
            data = "" if labels else page.given.settings.data
            more = (f"--config.training.max_steps={steps}",) if steps else ()
            try:
                _start(page, TrainingRequest(config, name, data, labels, more))
            except UserError as error:  # here, so that the one that runs stays in sight
                st.error(plain(str(error)))
    if not sources:
        st.caption(words("nothing_to_train_on"))
    if _started(page) is not None:
        _watch(page)


def _has_classes(page: Page) -> bool:
    """Whether --data has labels of its own: class folders, or a table."""
    settings = page.given.settings
    return bool(settings.data) and not settings.labels and any(page.collection.labels)


def _started(page: Page) -> Training | None:
    """The training of this page, which all tabs see."""
    return _trainings().get(str(page.collection.output.absolute()))


@st.cache_resource
def _trainings() -> dict[str, Training]:
    return {}


def _start(page: Page, request: TrainingRequest) -> None:
    running = _started(page)
    if running is not None and running.status is None:
        raise UserError(page.words("already_training"))
    _trainings()[str(page.collection.output.absolute())] = Training(request, page.collection.output / "runs")


@st.fragment(run_every=REFRESH_SECONDS)
def _watch(page: Page) -> None:
    """Command, output and curves, drawn anew every two seconds without the rest of the page."""
    training = _started(page)
    if training is None:
        return
    words, status = page.words, training.status
    st.code(shlex.join(training.command), language="bash", wrap_lines=True)
    if status is None:
        st.caption(words("training_runs"))
        st.button(words("stop_training"), on_click=training.stop)
    else:
        st.caption(words("training_ended", status=status))
    st.code("\n".join(training.tail()) or "...", language=None, wrap_lines=True)
    if training.run.is_dir():
        curves(page, training.run, "training")
