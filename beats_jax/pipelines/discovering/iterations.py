"""Clusters that an encoder learns from, again and again (`mec`), for the sounds of `discover`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config import to_mapping
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings
from beats_jax.pipelines.discovering.items import Items
from beats_jax.pipelines.discovering.mec import Iteration, MecSettings, mec
from beats_jax.pipelines.discovering.mec_encoder import EncoderSettings, Regions, embedder, learner
from beats_jax.pipelines.discovering.settings import DiscoverSettings

ITERATIONS = "iterations"


def iterate(
    items: Items, identity: Mapping[str, Any], grouping: GroupingSettings, settings: DiscoverSettings, output: Path
) -> tuple[Iteration, list[Iteration]]:
    """The chosen iteration, and all; those that OUTPUT/iterations holds are not computed again.

    The first clusters are those of the vectors that are there. In each iteration the encoder that starts from the model (or from
    random weights, where there is none) learns the surest sounds of each cluster by episodes, and embeds all sounds anew.

    Other sounds or settings have another folder in there, so that recordings can be added and the old settings come back.

    Raises:
      UserError: too few clusters with enough sounds to learn, or a damaged folder.
    """
    times = (items.frame[name].to_numpy(np.float64) for name in ("start", "end"))
    regions = Regions(items.frame["file"].to_numpy(object), *times)
    chosen = EncoderSettings(seed=grouping.seed, batch_size=settings.batch_size, threads=settings.threads)
    again = embedder(regions, chosen)

    def embed(model: str) -> np.ndarray:
        return items.vectors if model == settings.model else again(model)

    wanted = MecSettings(iterations=settings.iterations, grouping=grouping)
    record = {"sounds": dict(identity), "recordings": list(items.recordings), "items_sha256": items.fingerprint()}
    key = hashlib.sha256(json.dumps([record, to_mapping(grouping), settings.model], sort_keys=True).encode()).hexdigest()
    return mec(embed, learner(regions, chosen), settings.model, output / ITERATIONS / key[:12], wanted, record)
