"""Few-shot classification of labelled recordings by a frozen encoder: embeds once, then answers many episodes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.episodes import EpisodeRule, Episodes, EpisodeSampler, class_draws, largest_query
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.splits import group_codes
from beats_jax.errors import UserError
from beats_jax.evaluation.episodes.methods import METHODS, answers
from beats_jax.evaluation.episodes.result import measure_episodes
from beats_jax.evaluation.report.episodes import EpisodeFindings
from beats_jax.inference.files import rate_notes
from beats_jax.inference.model import Model, load
from beats_jax.inference.sources import WITHOUT_WEIGHTS
from beats_jax.models import registry
from beats_jax.pipelines.measuring.evaluate import data_of, new_folder
from beats_jax.pipelines.measuring.trained_head import TRAINED, trained_answers, trained_head
from beats_jax.pipelines.measuring.write import REPORT_FILES
from beats_jax.pipelines.measuring.write_episodes import Drawn, write_episodes
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
from beats_jax.pipelines.probing.encoders import Encoder, own_statistics_encoder, randomise
from beats_jax.pipelines.probing.folds import base_data, targets_of
from beats_jax.pipelines.training.workdir import ERRORS_FILE
from beats_jax.weights.few_shot_head import SavedHead

OWN = "own-statistics"  # the encoder whose batch normalisation reads each window alone
OWN_NOTE = f"{OWN}: batch normalisation by each window's own values, as darksound extracts features; model: by those of training."
UNTRAINED = "random:"  # before the name of a model
DEFAULT_METHODS = ("prototypical", "simpleshot", "nearest-mean", "logistic", "ridge")


@dataclass(frozen=True)
class EpisodeSettings:
    """The model and data of an evaluation by episodes, and how episodes are drawn."""

    model: str  # a name of the registry, a file, a model folder, a run, or one without weights
    data: Path  # a folder of class folders, a folder in the ESC-50 layout, a CSV table, or a table of events
    n_way: int = 5
    n_shot: int = 5
    n_query: int = 15
    n_tasks: int = 600
    seed: int = 0
    methods: tuple[str, ...] = ()  # the first is the headline; empty = that of the run's training, if any, and the usual ones
    shared_recordings: bool = False  # support and query may be of one recording, as upstream draws
    leave_out_small: bool = False  # instead of refusing classes that are too small
    class_draws: int = 10
    draw_size: int = 0  # classes of a draw; 0 = half of them, at least n_way
    layers: tuple[int, ...] = ()  # empty = the features, which `embed` gives too
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
    rule, head = settings.rule(), trained_head(settings.model)
    settings = _with_methods(settings, head)
    for name, value, least in (("n_tasks", settings.n_tasks, 2), ("class_draws", settings.class_draws, 1)):
        if value < least:
            raise UserError(f"{name} is {value}; it must be at least {least}")
    data = replace(data_of(settings.data, base_data(settings.model)), multi_label=False, **settings.reading)
    encoders, model = _encoders(settings)
    with new_folder(output):
        errors = ErrorLog(output / ERRORS_FILE, strict)
        manifest = read_rows(settings.model, data, output, unseen=settings.unseen, where=settings.data)
        manifest = manifest.with_notes(*rate_notes(manifest.files.tolist(), encoders[MODEL].program.audio))
        print("".join(f"note: {note}\n" for note in manifest.notes), end="", flush=True)
        embedded = embed_all(encoders, manifest, data, errors, settings.cache, settings.layers)
        rows = add_hashes(settings.model, embedded[MODEL].manifest)
        names = LabelVocabulary.from_manifest(rows)
        _require_finite(embedded, rows)
        drawn, notes = _draw(settings, rule, rows, names)
        start = time.perf_counter()
        found = [
            EpisodeFindings(*place, measure_episodes(named, drawn.episodes, drawn.pools, len(names), drawn.classes, drawn.pooled))
            for place, named in _answers(settings, embedded, drawn.episodes)
        ]
        if head is not None and model is not None and head.method in settings.methods and head.method not in METHODS:
            place, named = trained_answers(head, model, rows, data, drawn.episodes, errors, settings.cache)
            figures = measure_episodes(named, drawn.episodes, drawn.pools, len(names), drawn.classes, drawn.pooled)
            found.insert(settings.methods.index(head.method), EpisodeFindings(MODEL, *place, head.method, figures))
        print(f"{len(found)} x {settings.n_tasks} episodes in {time.perf_counter() - start:.1f} s", flush=True)
        notes = [*manifest.notes, *notes, *([OWN_NOTE] if OWN in encoders else []), *known_note(settings.model, rows)]
        report = output / REPORT_FILES[page]
        return write_episodes(report, settings, data, rows, names, drawn, found, notes, errors, command)


def _with_methods(settings: EpisodeSettings, head: SavedHead | None) -> EpisodeSettings:
    """The settings with all methods named, and the pooling of the head's training. Raises `UserError` for an unknown method."""
    own = () if head is None else (head.method,)
    methods = settings.methods or tuple(dict.fromkeys((*own, *DEFAULT_METHODS)))
    for name in methods:
        if name in TRAINED and name not in own:
            raise UserError(
                f"the method {name!r} has weights of its own, and {settings.model} holds none; give a run that was trained with "
                f"it (configs/fewshot.py with --config.objective.method={name})"
            )
        require_known("method", name, (*METHODS, *TRAINED))
    poolings = settings.poolings or (() if settings.model in WITHOUT_WEIGHTS else ("mean",) if head is None else (head.pooling,))
    return replace(settings, methods=methods, poolings=poolings)


def _encoders(settings: EpisodeSettings) -> tuple[dict[str, Encoder], Model | None]:
    """The model and the baselines; `random:` before a model's name makes it untrained. None = `WITHOUT_WEIGHTS` are no models.

    A model with batch normalisation is measured in both ways of it.
    """
    chosen = settings.poolings, settings.layers, settings.baselines, settings.seed, not settings.layers
    if settings.model in WITHOUT_WEIGHTS:
        return compared_encoders(None, *chosen, without_weights=settings.model), None
    if settings.model == RANDOM:
        raise UserError("random weights of which model? give random:MODEL, or --baseline random beside a model")
    untrained = settings.model.startswith(UNTRAINED)
    model = load(settings.model.removeprefix(UNTRAINED))
    model = randomise(model, settings.seed) if untrained else model
    encoders = compared_encoders(model, *chosen)
    if registry.family(model.config).batch_statistics:
        encoders[OWN] = own_statistics_encoder(encoders[MODEL])
    return encoders, model


def _require_finite(embedded: Mapping[str, Embeddings], rows: Manifest) -> None:
    for name, embeddings in embedded.items():
        finite = np.isfinite(embeddings.values).all(axis=(0, 1, 3))
        if not finite.all():
            first = rows.files[int(np.flatnonzero(~finite)[0])]
            raise UserError(f"the {name} gives {int((~finite).sum())} rows embeddings that are not numbers, the first is {first}")


def _draw(settings: EpisodeSettings, rule: EpisodeRule, rows: Manifest, names: LabelVocabulary) -> tuple[Drawn, list[str]]:
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
    episodes, pooled = sampler(classes[None]).batch(0, settings.n_tasks), 0
    if len(pools) > 1:
        pooled, others = settings.n_tasks, sampler(pools).batch(0, settings.n_tasks)
        columns = ("classes", "support", "query")
        episodes = Episodes(*(np.concatenate([getattr(one, name) for one in (episodes, others)]) for name in columns))
    return Drawn(episodes, pools, len(classes), pooled), notes


def _answers(
    settings: EpisodeSettings, embedded: Mapping[str, Embeddings], episodes: Episodes
) -> Iterator[tuple[tuple[str, str, str, str], np.ndarray]]:
    """(encoder, layer, pooling, method) and the way named for each query [E, W, Q]; the headline first."""
    for encoder, embeddings in embedded.items():
        for layer, pooling in np.ndindex(*embeddings.values.shape[:2]):
            for method in (name for name in settings.methods if name in METHODS):
                place = (encoder, embeddings.layers[layer], embeddings.poolings[pooling], method)
                yield place, answers(METHODS[method], embeddings.values[layer, pooling], episodes)
