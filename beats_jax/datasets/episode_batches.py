"""Batches of whole episodes for training, through the loader of all training.

A batch holds E episodes one after another; an episode its support, class by class (W * K clips), then its queries, class by class
(W * Q). Step s holds the episodes s * E to (s + 1) * E - 1 of the sampler, whatever the number of hosts, workers or restarts.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.class_splits import class_of_rows
from beats_jax.datasets.episodes import EpisodeRule, Episodes, EpisodeSampler
from beats_jax.datasets.loader import Batch, Examples, batches_in_order
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.splits import group_codes

ENDLESS = 2**62
KEPT = 64  # episodes: every clip asks for its own, and several workers draw batches at once


def sampler_of(manifest: Manifest, rule: EpisodeRule) -> EpisodeSampler:
    """Episodes of the rows of a manifest; what must not be in both support and query is `splits.group_codes`.

    Raises:
      UserError: a row without exactly one class, too few classes or rows (`EpisodeSampler`).
    """
    names, labels = np.unique(class_of_rows(manifest), return_inverse=True)
    return EpisodeSampler(labels, names.tolist(), rule, group_codes(manifest))


def flat_rows(episodes: Episodes) -> np.ndarray:
    """int64 [E, W * (K + Q)], or without E: the rows of episodes in the order of a batch."""
    parts = (episodes.support, episodes.query)
    return np.concatenate([part.reshape(*part.shape[:-2], -1) for part in parts], axis=-1)


@dataclass(frozen=True, eq=False)
class _Visits:
    """Number of a clip in the endless stream → its row."""

    sampler: EpisodeSampler
    clips: int  # of an episode

    def __call__(self, index: int) -> int:
        return int(_rows_of(self.sampler, index // self.clips)[index % self.clips])


@lru_cache(maxsize=KEPT)
def _rows_of(sampler: EpisodeSampler, episode: int) -> np.ndarray:
    return flat_rows(sampler[episode])


def episode_batches(
    manifest: Manifest,
    sampler: EpisodeSampler,
    episodes: int,
    data: DataConfig,
    audio: AudioConfig,
    *,
    seed: int,
    start_step: int = 0,
    host_index: int = 0,
    host_count: int = 1,
) -> Generator[Batch, None, None]:
    """Endless batches of `episodes` episodes of a sampler over the rows of `manifest`; without labels, which places give.

    Arguments and errors as in `loader.training_batches`; `data.batch_size` is not read.
    """
    import grain

    rule = sampler.rule
    clips = rule.n_way * (rule.n_shot + rule.n_query)
    data = replace(data, batch_size=episodes * clips)
    order = grain.MapDataset.range(ENDLESS).map(_Visits(sampler, clips))
    place = {"start_step": start_step, "host_index": host_index, "host_count": host_count}
    return batches_in_order(order, Examples(manifest, None, data, audio), data, seed=seed, **place)
