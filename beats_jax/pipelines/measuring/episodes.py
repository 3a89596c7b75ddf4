"""Few-shot classification of labelled recordings by a frozen encoder: embeds once, then answers many episodes."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config import DataConfig, to_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.episodes import EpisodeRule, Episodes, EpisodeSampler, class_draws, largest_query
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.splits import group_codes
from beats_jax.errors import UserError
from beats_jax.evaluation.episodes.methods import METHODS, answers
from beats_jax.evaluation.episodes.result import measure_episodes
from beats_jax.evaluation.predictions import write_metrics
from beats_jax.evaluation.report.episodes import EpisodeFindings, episodes_page, sentences
from beats_jax.evaluation.report.page import write_page
from beats_jax.files import write_text
from beats_jax.inference.files import rate_notes
from beats_jax.inference.model import load
from beats_jax.inference.sources import FILTERBANK
from beats_jax.pipelines.environment import provenance
from beats_jax.pipelines.measuring.evaluate import data_of, new_folder
from beats_jax.pipelines.measuring.write import REPORT_FILES, versions
from beats_jax.pipelines.probing.cache import Embeddings
from beats_jax.pipelines.probing.compared import (
    MODEL,
    RANDOM,
    add_hashes,
    compared_encoders,
    embed_all,
    known_note,
    read_rows,
    require_known,
)
from beats_jax.pipelines.probing.encoders import Encoder, randomise
from beats_jax.pipelines.probing.folds import base_data, targets_of
from beats_jax.pipelines.training.workdir import ERRORS_FILE, METRICS_FILE
from beats_jax.spreadsheets import safe_cell

EPISODES_FILE = "episodes.csv"
UNTRAINED = "random:"  # before the name of a model
TRAINED = ("matching", "relation")  # methods with parameters of their own
DEFAULT_METHODS = ("prototypical", "simpleshot", "nearest-mean", "logistic")


@dataclass(frozen=True)
class EpisodeSettings:
    """The model and data of an evaluation by episodes, and how episodes are drawn."""

    model: str  # a name of the registry, a file, a model folder, a run, or "filterbank"
    data: Path  # a folder of class folders, a folder in the ESC-50 layout, a CSV table, or a table of events
    n_way: int = 5
    n_shot: int = 5
    n_query: int = 15
    n_tasks: int = 600
    seed: int = 0
    methods: tuple[str, ...] = DEFAULT_METHODS  # the first is the headline
    shared_recordings: bool = False  # support and query may be of one recording, as upstream draws
    leave_out_small: bool = False  # instead of refusing classes that are too small
    class_draws: int = 10
    draw_size: int = 0  # classes of a draw; 0 = half of them, at least n_way
    layers: tuple[int, ...] = ()  # empty = the last
    poolings: tuple[str, ...] = ()  # empty = the mean, of the filterbank all that it has
    baselines: tuple[str, ...] = ()
    unseen: bool = False
    cache: Path | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)  # fields of DataConfig, such as label_column

    def rule(self) -> EpisodeRule:
        """How an episode is drawn. Raises `UserError` for numbers out of their bounds."""
        return EpisodeRule(self.n_way, self.n_shot, self.n_query, self.seed, disjoint=not self.shared_recordings)


def evaluate_episodes(
    settings: EpisodeSettings, output: Path, *, strict: bool, command: str, page: str = "html"
) -> dict[str, Any]:
    """Embeds, draws, answers and measures; writes metrics.json, episodes.csv, errors.csv and the report.

    Args:
      page: html (report.html) | md (RESULTS.md).
    Returns:
      the contents of metrics.json.
    Raises:
      UserError: unknown names, classes too small (by name), too few classes, an `output` in use; with `strict` the first file
        that cannot be used.
    """
    rule = settings.rule()
    for name in settings.methods:
        _require_method(name, settings.model)
    for name, value, least in (("n_tasks", settings.n_tasks, 2), ("class_draws", settings.class_draws, 1)):
        if value < least:
            raise UserError(f"{name} is {value}; it must be at least {least}")
    data = replace(data_of(settings.data, base_data(settings.model)), multi_label=False, **settings.reading)
    encoders = _encoders(settings)
    with new_folder(output):
        errors = ErrorLog(output / ERRORS_FILE, strict)
        manifest = read_rows(settings.model, data, output, unseen=settings.unseen, where=settings.data)
        manifest = manifest.with_notes(*rate_notes(manifest.files.tolist(), encoders[MODEL].program.audio))
        print("".join(f"note: {note}\n" for note in manifest.notes), end="", flush=True)
        embedded = embed_all(encoders, manifest, data, errors, settings.cache, settings.layers or (-1,))
        rows = add_hashes(settings.model, embedded[MODEL].manifest)
        names = LabelVocabulary.from_manifest(rows)
        _require_finite(embedded, rows)
        drawn, notes = _draw(settings, rule, rows, names)
        start = time.perf_counter()
        found = [
            EpisodeFindings(*place, measure_episodes(named, drawn.episodes, drawn.pools, len(names), drawn.classes))
            for place, named in _answers(settings, embedded, drawn.episodes)
        ]
        print(f"{len(found)} x {settings.n_tasks} episodes in {time.perf_counter() - start:.1f} s", flush=True)
        notes = [*manifest.notes, *notes, *known_note(settings.model, rows)]
        report = output / REPORT_FILES[page]
        return _write(report, settings, data, rows, names, drawn, found, notes, errors, command)


def _require_method(name: str, model: str) -> None:
    if name in TRAINED:
        raise UserError(
            f"the method {name!r} has weights of its own, and {model} holds none; give a run that was trained with it"
        )
    require_known("method", name, tuple(METHODS))


def _encoders(settings: EpisodeSettings) -> dict[str, Encoder]:
    """The model with the chosen poolings; the filterbank has none to choose. Untrained: `random:` before a model's name."""
    chosen = settings.layers, settings.baselines, settings.seed
    if settings.model == FILTERBANK:
        return compared_encoders(None, settings.poolings, *chosen)
    if settings.model == RANDOM:
        raise UserError("random weights of which model? give random:MODEL, or --baseline random beside a model")
    untrained = settings.model.startswith(UNTRAINED)
    model = load(settings.model.removeprefix(UNTRAINED))
    model = randomise(model, settings.seed) if untrained else model
    return compared_encoders(model, settings.poolings or ("mean",), *chosen)


def _require_finite(embedded: Mapping[str, Embeddings], rows: Manifest) -> None:
    for name, embeddings in embedded.items():
        finite = np.isfinite(embeddings.values).all(axis=(0, 1, 3))
        if not finite.all():
            first = rows.files[int(np.flatnonzero(~finite)[0])]
            raise UserError(f"the {name} gives {int((~finite).sum())} rows embeddings that are not numbers, the first is {first}")


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Episodes; they draw of `pools` [D, M], which are draws of `classes` classes."""

    episodes: Episodes
    pools: np.ndarray
    classes: int


def _draw(settings: EpisodeSettings, rule: EpisodeRule, rows: Manifest, names: LabelVocabulary) -> tuple[_Drawn, list[str]]:
    """Episodes of the classes that can fill one, and sentences on those left out."""
    labels, groups, notes = targets_of(rows, names, False).argmax(axis=1), group_codes(rows), []
    classes = np.arange(len(names))
    if settings.leave_out_small:
        apart = groups if rule.disjoint else np.arange(len(rows))
        enough = np.array([largest_query(apart[labels == label], rule.n_shot) >= rule.n_query for label in classes])
        small = [f"{names.names[label]} ({int((labels == label).sum())} rows)" for label in classes[~enough]]
        notes = (
            [f"Left out, too small for {rule.n_shot} support and {rule.n_query} query rows: {', '.join(small)}."] if small else []
        )
        classes = classes[enough]
    sampler = partial(EpisodeSampler, labels, names.names, rule, groups)
    try:
        sampler(classes[None])  # every class is looked at, also those that no draw has
    except UserError as error:
        remedy = " (--leave-out-small)" if str(error).endswith("leave these classes out") else ""
        raise UserError(f"{error}{remedy}") from error
    size = settings.draw_size or max(rule.n_way, -(-len(classes) // 2))
    if size < rule.n_way:
        raise UserError(f"--draw-size {size} is less than --n-way {rule.n_way}; a draw needs as many classes as an episode")
    pools = class_draws(classes, size, settings.class_draws if size < len(classes) else 1, settings.seed)
    return _Drawn(sampler(pools).batch(0, settings.n_tasks), pools, len(classes)), notes


def _answers(
    settings: EpisodeSettings, embedded: Mapping[str, Embeddings], episodes: Episodes
) -> Iterator[tuple[tuple[str, str, str, str], np.ndarray]]:
    """(encoder, layer, pooling, method) and the way named for each query [E, W, Q]; the headline first."""
    for encoder, embeddings in embedded.items():
        for layer, pooling in np.ndindex(*embeddings.values.shape[:2]):
            for method in settings.methods:
                place = (encoder, embeddings.layers[layer], embeddings.poolings[pooling], method)
                yield place, answers(METHODS[method], embeddings.values[layer, pooling], episodes)


def _write(
    report: Path,
    settings: EpisodeSettings,
    data: DataConfig,
    rows: Manifest,
    names: LabelVocabulary,
    drawn: _Drawn,
    found: Sequence[EpisodeFindings],
    notes: Sequence[str],
    errors: ErrorLog,
    command: str,
) -> dict[str, Any]:
    """Writes all files, metrics.json last, prints the findings and returns the metrics."""
    output, size = report.parent, drawn.pools.shape[1]
    apart = "that may share recordings" if settings.shared_recordings else "of different recordings"
    pools = f"{len(drawn.pools)} draws of {size} of {drawn.classes} classes" if size < drawn.classes else f"all {size} classes"
    what = (
        f"{settings.n_tasks} episodes of {settings.n_way} ways, {settings.n_shot} support and {settings.n_query} query rows a "
        f"class {apart}, {pools}, seed {settings.seed}"
    )
    facts = {
        "rows": len(rows),
        "files": len(np.unique(rows.files)),
        "recordings": len(np.unique(group_codes(rows))),
        "duration": f"{float(np.sum(rows.metadata['seconds'])) / 3600:.2f} h",
        "classes": ", ".join(f"{name} {number}" for name, number in rows.labels.counts().items()),
    }
    write_text(output / EPISODES_FILE, _table(drawn, found, names))
    title = f"{settings.model} on episodes of {settings.data}"
    fields = {"settings": {"episodes": asdict(settings), "data": to_mapping(data)}, "errors": errors.rows()}
    fields |= {"versions": versions(), "provenance": provenance(), "command": command}
    write_page(report, episodes_page(found, names.names, what, notes, facts, title=title, **fields))
    metrics = flat_metrics(settings, found, drawn)
    write_metrics(output / METRICS_FILE, metrics)
    print("\n".join([what, *sentences(found), *notes]))
    print(f"report: {report}", flush=True)
    return metrics


def flat_metrics(settings: EpisodeSettings, found: Sequence[EpisodeFindings], drawn: _Drawn) -> dict[str, Any]:
    """Flat keys: `accuracy` of the headline; `prototypical_accuracy`, `fbank_prototypical_accuracy` of each method and baseline
    at the first layer and pooling; each with `_low`, `_high` over episodes and `_draws_low`, `_draws_high` for other classes."""
    metrics: dict[str, Any] = {"n": settings.n_tasks, "n_way": settings.n_way, "n_shot": settings.n_shot}
    metrics |= {"n_query": settings.n_query, "classes": drawn.classes, "class_draws": len(drawn.pools)}
    for one in found:
        prefix = "" if one.encoder == MODEL else f"{one.encoder}_"
        names = [f"{prefix}{one.method.replace('-', '_')}_accuracy", *(["accuracy"] if one is found[0] else [])]
        episodes, draws = one.result.episodes, one.result.draws
        values = {"": episodes.value, "_low": episodes.low, "_high": episodes.high, "_draws_low": draws.low}
        for name in names:
            if name not in metrics:  # that of the first layer and pooling
                metrics |= {name + end: value for end, value in (values | {"_draws_high": draws.high}).items()}
    return metrics


def _table(drawn: _Drawn, found: Sequence[EpisodeFindings], names: LabelVocabulary) -> str:
    """A row for each episode: its classes and its accuracy by every method, so that any two can be compared in pairs."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    places = [" ".join((one.encoder, one.layer, one.pooling, one.method)) for one in found]
    writer.writerow(["episode", "draw", "classes", *places])
    for number, labels in enumerate(drawn.episodes.classes):
        classes = safe_cell("; ".join(names.names[label] for label in labels))
        accuracies = [f"{one.result.accuracies[number]:.6g}" for one in found]
        writer.writerow([number, number % len(drawn.pools), classes, *accuracies])
    return text.getvalue()
