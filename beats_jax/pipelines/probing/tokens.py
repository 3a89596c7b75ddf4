"""All tokens of one layer in memory: the input of the attentive probe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from beats_jax.config import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.errors import UserError
from beats_jax.inference.grid import evaluation_grid
from beats_jax.inference.job import iterate_rows
from beats_jax.inference.model import Model
from beats_jax.inference.program import Outputs
from beats_jax.inference.reduce import EachWindow

MOST_BYTES = 8 * 2**30


def read_tokens(model: Model, manifest: Manifest, data: DataConfig, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of every row, float32 [N, T, D], and which are real, bool [N, T]; windows of a row follow one another.

    They take 4 N T D bytes (BEATs-base: 1.5 MB for a clip of 10 s), twice that while a probe trains, and are not kept on disk.

    Args:
      manifest: rows that `embeddings.embed_manifest` could read. layer: as in `Model.embed`.
    Raises:
      UserError: more than 8 GiB; a row that can no longer be read.
    """
    clips: dict[int, np.ndarray] = {}
    total = 0
    program = model.program(Outputs(layers=(layer,), tokens=True))
    reading = {"batch_size": data.batch_size, "threads": max(1, data.num_workers), "on_error": "raise"}
    for row in iterate_rows(program, manifest, evaluation_grid(data, model.audio), EachWindow(), **reading):
        clips[row.row] = np.concatenate([window.values["tokens"][window.values["token_mask"]] for window in row.value])
        total += clips[row.row].nbytes
        if total > MOST_BYTES:
            raise UserError(
                f"the tokens of {len(clips)} of {len(manifest)} rows take more than {MOST_BYTES / 2**30:g} GiB; the attentive "
                "probe keeps all of them: leave it out, or give it fewer or shorter recordings"
            )
    lengths = np.array([len(clips[row]) for row in range(len(manifest))])
    tokens = np.zeros((len(clips), lengths.max(), model.num_features), np.float32)
    for row, line in enumerate(tokens):
        line[: lengths[row]] = clips[row]
    return tokens, np.arange(tokens.shape[1])[None] < lengths[:, None]


def without_facts(manifest: Manifest) -> Manifest:
    """The rows as a source gives them, without the columns that validation adds, so that they can be validated again."""
    kept = {name: column for name, column in manifest.metadata.items() if name not in ("seconds", "content", "row")}
    return replace(manifest, metadata=kept)
