"""All tokens of one layer in memory: what the attentive probe looks over."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from beats_jax.config import DataConfig
from beats_jax.datasets.loader import evaluation_batches
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.errors import UserError
from beats_jax.pipelines.embeddings import no_longer
from beats_jax.weights.model import Model

MOST_BYTES = 8 * 2**30


def read_tokens(model: Model, manifest: Manifest, data: DataConfig, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of every row, float32 [N, T, D], and which are real, bool [N, T]; windows of a row stand one after the other.

    They take 4 N T D bytes (BEATs-base: 1.5 MB for a clip of 10 s), twice that while a probe trains, and are not kept on disk.

    Args:
      manifest: rows that `embeddings.embed_manifest` could read. layer: as in `Model.tokens`.
    Raises:
      UserError: more than 8 GiB; a row that cannot be read any more.
    """
    vocabulary = LabelVocabulary.from_manifest(manifest)
    heard: dict[int, list[np.ndarray]] = defaultdict(list)
    total = 0
    for batch in evaluation_batches(manifest, vocabulary, no_longer(data, manifest), model.audio):
        for error in batch.errors:
            raise UserError(f"{error}; it could be read a moment ago")
        features, token_mask = map(np.asarray, model.tokens(batch.arrays["waveforms"], batch.arrays["lengths"], layer))
        for place in np.flatnonzero(batch.arrays["example_mask"]).tolist():
            real = features[place][token_mask[place]]
            heard[int(batch.arrays["rows"][place])].append(real)
            total += real.nbytes
        if total > MOST_BYTES:
            raise UserError(
                f"the tokens of {len(heard)} of {len(manifest)} rows take more than {MOST_BYTES / 2**30:g} GiB; the attentive "
                "probe keeps all of them: leave it out, or give it fewer or shorter recordings"
            )
    clips = [np.concatenate(heard[row]) for row in range(len(manifest))]
    longest = max(map(len, clips))
    tokens = np.zeros((len(clips), longest, model.num_features), np.float32)
    for line, clip in zip(tokens, clips, strict=True):
        line[: len(clip)] = clip
    return tokens, np.arange(longest)[None] < np.array([len(clip) for clip in clips])[:, None]


def without_facts(manifest: Manifest) -> Manifest:
    """The rows as a source gives them: what validation found of the files left out, so that it can look again."""
    kept = {name: column for name, column in manifest.metadata.items() if name not in ("seconds", "content", "row")}
    return replace(manifest, metadata=kept)
