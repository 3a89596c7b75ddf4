"""The probe to use, fitted on all rows with labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from beats_jax.config import DataConfig, EvaluationConfig
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.evaluation.metrics.operating_point import choose_operating_point
from beats_jax.evaluation.probes.attentive import AttentiveProbe
from beats_jax.evaluation.probes.fitted import fit_attentive, fit_probe
from beats_jax.evaluation.probes.nested import Probe, Study
from beats_jax.evaluation.report.probe import EncoderFindings
from beats_jax.inference.files import probabilities
from beats_jax.inference.model import Model
from beats_jax.inference.program import Outputs
from beats_jax.pipelines.measuring.measure import write_operating_point
from beats_jax.pipelines.probing.cache import Embeddings
from beats_jax.pipelines.probing.saved import ProbeHead, write_head
from beats_jax.weights.bundle import Reading


def save_final(
    source: str,
    token_layer: int,
    seed: int,
    data: DataConfig,
    model: Model,
    vocabulary: LabelVocabulary,
    targets: np.ndarray,
    folder: Path,
    found: EncoderFindings,
    embeddings: Embeddings,
    probes: Mapping[str, Probe],
    first: Study,
) -> None:
    """Fits the chosen probe on all rows and writes it, with thresholds by the predictions of its kind for held-out rows.

    Args:
      source: the encoder, as it was named. token_layer, seed: of the attentive kind.
      found, embeddings, probes, first: of the probed model; `first` is the first drawing of the folds.
    """
    choice = found.final
    probe, (layer, pooling) = probes[choice.kind], found.place(choice)
    setting = probe.settings[choice.setting]
    if isinstance(probe, AttentiveProbe):
        arrays = fit_attentive(setting, probe.tokens, probe.token_mask, targets, data.multi_label, seed)
        layer, pooling = str(token_layer), ""
    else:
        vectors = embeddings.values.reshape(-1, *embeddings.values.shape[2:])[choice.embedding]
        arrays = fit_probe(choice.kind, setting, vectors, targets, data.multi_label)
    path = Path(source).expanduser()
    head = ProbeHead(
        kind=choice.kind,
        setting=setting,
        arrays=arrays,
        layer=int(layer),
        pooling=pooling,
        labels=vocabulary.names,
        multi_label=data.multi_label,
        reading=Reading(data.heard_seconds, data.hop_seconds, data.trim_below_dbfs),
        source=str(path.resolve()) if path.exists() else source,
        encoder=model.program(Outputs()).identity(),
    )
    logits = first.kinds[choice.kind].logits  # not those of the best kind in each fold, whose scores have other scales
    held = np.isfinite(logits).all(axis=1)
    labels = targets[held] if data.multi_label else targets[held].argmax(axis=1)
    scores = probabilities(logits[held], data.multi_label)
    point = choose_operating_point(labels, scores, vocabulary.names, multi_label=data.multi_label, config=EvaluationConfig())
    write_head(folder, head)
    write_operating_point(folder, point)
