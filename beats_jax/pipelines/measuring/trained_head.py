"""How a run that was trained by episodes compares queries with examples, in episodes of other data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from beats_jax.config import DataConfig
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.episodes import Episodes
from beats_jax.datasets.manifest import Manifest
from beats_jax.errors import UserError
from beats_jax.evaluation.episodes.methods import answers
from beats_jax.inference.model import Model
from beats_jax.inference.program import Outputs
from beats_jax.models.fewshot.heads import FewShotHead
from beats_jax.pipelines.measuring.new_classes import first_maps
from beats_jax.pipelines.probing.cache import embed_manifest
from beats_jax.pipelines.probing.encoders import FEATURES, model_encoder
from beats_jax.pipelines.probing.tokens import without_facts
from beats_jax.weights.few_shot_head import SavedHead, load_head

TRAINED = ("matching", "relation")  # methods with parameters of their own


def trained_head(model: str) -> SavedHead | None:
    """The head beside the tensors of a run or model folder; None where there is none. Raises `UserError` for a damaged one."""
    folder = Path(model).expanduser()
    return load_head(folder) if folder.is_dir() else None


def trained_answers(
    head: SavedHead,
    model: Model,
    rows: Manifest,
    data: DataConfig,
    episodes: Episodes,
    errors: ErrorLog,
    cache: Path | None,
) -> tuple[tuple[str, str], np.ndarray]:
    """(layer, pooling) that the head reads, and the way named for each query, int [E, W, Q].

    Matching reads the model's pooled features, relation the map of all tokens of the first window.

    Args:
      rows: of the episodes. errors, cache: as in `embed_manifest`.
    Raises:
      AudioError: relation reads the recordings again, and one cannot be read any more.
      UserError: so for matching.
    """
    compare = FewShotHead(head.method)

    def rule(params: Any, support: jax.Array, query: jax.Array) -> jax.Array:
        return compare.scores(params, support[None], query[None])[0]

    if not compare.reads_maps:
        encoder = model_encoder(model, (head.pooling,), features=True)
        embedded = embed_manifest(encoder, without_facts(rows), data, errors, cache)
        if len(embedded.manifest) < len(rows):
            raise UserError("some recordings could be read at first and not later; give the command again with another --output")
        return (FEATURES, head.pooling), answers(rule, embedded.values[0, 0], episodes, head.params)
    reading: dict[str, Any] = {"batch_size": data.batch_size, "threads": max(1, data.num_workers), "on_error": "raise"}
    maps = first_maps(model.program(Outputs(tokens=True)), rows, head.window_seconds, **reading)
    return (FEATURES, "map"), answers(rule, np.stack([row.value for row in maps]), episodes, head.params)
