"""Probes of a frozen encoder: embeds, sweeps, chooses and measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config import DataConfig, EvaluationConfig
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.splits import group_codes
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.result import EvaluationResult, evaluate_predictions
from beats_jax.evaluation.probes.attentive import AttentiveProbe
from beats_jax.evaluation.probes.fitted import ATTENTIVE
from beats_jax.evaluation.probes.kinds import KINDS, usable_settings
from beats_jax.evaluation.probes.nested import TEST, Averages, EmbeddingProbe, Probe, Study, best, best_of, study
from beats_jax.evaluation.report.probe import EncoderFindings, KindFindings, headline
from beats_jax.inference.files import probabilities, rate_notes
from beats_jax.inference.model import Model, load
from beats_jax.pipelines.measuring.evaluate import data_of, new_folder
from beats_jax.pipelines.measuring.write import REPORT_FILES
from beats_jax.pipelines.probing.cache import Embeddings
from beats_jax.pipelines.probing.compared import (
    MODEL,
    add_hashes,
    compared_encoders,
    embed_all,
    known_note,
    read_rows,
    require_known,
)
from beats_jax.pipelines.probing.encoders import Encoder
from beats_jax.pipelines.probing.final import save_final
from beats_jax.pipelines.probing.folds import (
    FoldPlan,
    base_data,
    enough_folds,
    fold_notes,
    plan_folds,
    targets_of,
)
from beats_jax.pipelines.probing.saved import FOLDER
from beats_jax.pipelines.probing.tokens import read_tokens
from beats_jax.pipelines.probing.write import write_probe
from beats_jax.pipelines.training.workdir import ERRORS_FILE

DEFAULT_KINDS = ("logistic", "ridge", "knn", "prototype")


@dataclass(frozen=True)
class ProbeSettings:
    """The model and data of a probe, and its choices."""

    model: str  # a name of the registry, a file, a model folder or a run
    data: Path  # a folder of class folders, a folder in the ESC-50 layout, or a CSV table
    kinds: tuple[str, ...] = ()  # empty = all that fit the labels, without the attentive one
    layers: tuple[int, ...] = ()  # empty = all; negative ones count from the last
    poolings: tuple[str, ...] = ()  # empty = all
    baselines: tuple[str, ...] = ()  # of BASELINES
    folds: int = 5
    repeats: int = 1  # drawings of the folds
    seed: int = 0  # of folds, bootstrap and random weights
    token_layer: int = -1  # of the attentive probe
    unseen: bool = False  # leave out rows that the run was trained on
    cache: Path | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)  # fields of DataConfig, such as label_column


def probe(settings: ProbeSettings, output: Path, *, strict: bool, command: str, page: str = "html") -> dict[str, Any]:
    """Embeds, sweeps, chooses, measures; writes metrics.json, probe.json, predictions.csv, the report, errors.csv and the
    chosen probe, fitted on all rows (`probing.saved`).

    Args:
      page: html (report.html) | md (RESULTS.md).
    Returns:
      the contents of metrics.json.
    Raises:
      UserError: unknown names, data without rows or with one class, too few groups for the folds, an `output` in use; with
        `strict` the first file that cannot be used.
    """
    if settings.repeats < 1:
        raise UserError(f"--repeats is {settings.repeats}; it must be at least 1")
    enough_folds(settings.folds)
    data = replace(data_of(settings.data, base_data(settings.model)), **settings.reading)
    kinds = _kinds(settings.kinds, data.multi_label)
    model = load(settings.model)
    asked = (*settings.layers, settings.token_layer)
    encoders = compared_encoders(model, settings.poolings, asked, settings.baselines, settings.seed)
    with new_folder(output):
        errors = ErrorLog(output / ERRORS_FILE, strict)
        return _probe(settings, data, kinds, model, encoders, output, errors, command, page)


def _probe(
    settings: ProbeSettings,
    data: DataConfig,
    kinds: tuple[str, ...],
    model: Model,
    encoders: Mapping[str, Encoder],
    output: Path,
    errors: ErrorLog,
    command: str,
    page: str,
) -> dict[str, Any]:
    manifest = read_rows(settings.model, data, output, unseen=settings.unseen, where=settings.data)
    manifest = manifest.with_notes(*rate_notes(manifest.files.tolist(), model.audio))
    print("".join(f"note: {note}\n" for note in manifest.notes), end="", flush=True)
    found = embed_all(encoders, manifest, data, errors, settings.cache, settings.layers)
    rows = add_hashes(settings.model, found[MODEL].manifest)
    vocabulary = LabelVocabulary.from_manifest(rows)
    targets = targets_of(rows, vocabulary, data.multi_label)
    plans = _plans(rows, settings)
    print(f"{len(rows)} rows, {len(vocabulary)} classes. {plans[0].sentence}", flush=True)
    findings, logits = [], {}
    keep = partial(
        save_final, settings.model, settings.token_layer, settings.seed, data, model, vocabulary, targets, output / FOLDER
    )
    for name, embeddings in found.items():
        probes = _probes(embeddings, targets, plans, kinds, data.multi_label)
        if ATTENTIVE in kinds and name == MODEL:
            tokens, mask = read_tokens(model, rows, data, settings.token_layer)
            print(f"tokens: {tokens.shape}, {tokens.nbytes / 2**30:.2f} GiB", flush=True)
            probes[ATTENTIVE] = AttentiveProbe(tokens[None], mask, targets, data.multi_label, settings.seed)
        studies = [study(probes, plan.codes, len(vocabulary)) for plan in plans]
        findings.append(_findings(name, embeddings, probes, studies, targets, vocabulary, data.multi_label, settings.seed))
        logits[name] = studies[0].logits
        if name == MODEL:
            keep(findings[-1], embeddings, probes, studies[0])
    notes = [*manifest.notes, *known_note(settings.model, rows), *fold_notes(targets, plans[0], vocabulary.names)]
    report = output / REPORT_FILES[page]
    return write_probe(report, settings, data, findings, logits[MODEL], rows, vocabulary, plans[0], notes, errors, command)


def _kinds(names: tuple[str, ...], multi_label: bool) -> tuple[str, ...]:
    """The kinds asked for, or all that fit."""
    for name in names:
        require_known("probe kind", name, (*KINDS, ATTENTIVE))
        if multi_label and name in KINDS and not KINDS[name].multi_label:
            raise UserError(f"the probe {name!r} gives one label an example; leave it out, or --multi-label")
    return tuple(dict.fromkeys(names)) or tuple(name for name in DEFAULT_KINDS if not multi_label or KINDS[name].multi_label)


def _plans(rows: Manifest, settings: ProbeSettings) -> list[FoldPlan]:
    """One plan for each repeat."""
    first = plan_folds(rows, settings.folds, settings.seed)
    if settings.repeats > 1 and not first.drawn:
        raise UserError("the data has folds of its own, which are not drawn again; leave --repeats at 1")
    return [first, *(plan_folds(rows, settings.folds, settings.seed + k) for k in range(1, settings.repeats))]


def _probes(
    embeddings: Embeddings, targets: np.ndarray, plans: list[FoldPlan], kinds: tuple[str, ...], multi_label: bool
) -> dict[str, Probe]:
    """The kinds that read pooled embeddings, with settings that the smallest training set allows."""
    values = embeddings.values.reshape(-1, *embeddings.values.shape[2:])
    smallest = min(_smallest_training_set(plan.codes) for plan in plans)
    pooled = [kind for kind in kinds if kind != ATTENTIVE]
    return {kind: EmbeddingProbe(kind, usable_settings(kind, smallest), values, targets, multi_label) for kind in pooled}


def _smallest_training_set(codes: np.ndarray) -> int:
    sizes = np.sort(np.bincount(codes[codes >= 0]))
    held = 1 if (codes == TEST).any() else 2
    return int(sizes[: len(sizes) - held].sum())


def _findings(
    name: str,
    embeddings: Embeddings,
    probes: Mapping[str, Probe],
    studies: list[Study],
    targets: np.ndarray,
    vocabulary: LabelVocabulary,
    multi_label: bool,
    seed: int,
) -> EncoderFindings:
    """Test figures of the first repeat, and validation means over all of them."""
    groups = group_codes(embeddings.manifest)
    labels = targets if multi_label else targets.argmax(axis=1)

    def evaluate(logits: np.ndarray) -> EvaluationResult:
        tested = np.isfinite(logits).all(axis=1)
        scores, config = probabilities(logits[tested], multi_label), EvaluationConfig()
        return evaluate_predictions(labels[tested], scores, vocabulary.names, groups[tested], multi_label, config, seed)

    kinds = {}
    for kind, one in probes.items():
        tables = [each.kinds[kind].table for each in studies]
        means = Averages(np.mean([t.score for t in tables], axis=0), np.mean([t.loss for t in tables], axis=0))
        shape = (*embeddings.values.shape[:2], -1) if kind != ATTENTIVE else (1, 1, -1)
        setting = KINDS[kind].setting if kind != ATTENTIVE else "weight decay"
        first = studies[0].kinds[kind]
        kinds[kind] = KindFindings(
            setting, one.settings, means.score.reshape(shape), best(kind, means), first.choices, evaluate(first.logits)
        )
    result = evaluate(studies[0].logits)
    later = [evaluate(each.logits).metrics[headline(result)].value for each in studies[1:]]
    repeats = tuple(float(value or 0.0) for value in (result.metrics[headline(result)].value, *later))
    final = best_of({kind: one.final for kind, one in kinds.items()})
    return EncoderFindings(name, embeddings.layers, embeddings.poolings, kinds, final, studies[0].choices, result, repeats)
