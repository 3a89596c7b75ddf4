"""Embeddings of audio files in three lines."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from beats_jax.config.rules import require_one_of
from beats_jax.errors import UserError
from beats_jax.pipelines.features import embed_files
from beats_jax.weights.model import Model
from beats_jax.weights.pretrained import load
from beats_jax.weights.published import default_name


class BEATsFeatureExtractor:
    """Turns audio files into vectors with a pre-trained or fine-tuned encoder.

        extractor = BEATsFeatureExtractor()                                # downloads BEATs_iter3_plus_AS2M once
        extractor = BEATsFeatureExtractor("runs/owls", pooling="max")      # a run, a folder, a file, or a name
        vectors = extractor.extract_from_files(["a.wav", "b.mp3"])         # float32 [2, D]

    A file gives the same vector alone and in a batch, whatever is beside it. Files of any length, rate and channel count.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str] | Model | None = None,
        pooling: str = "mean",
        *,
        layer: int = -1,
        batch_size: int = 8,
        window_seconds: float = 30.0,
        dtype: str = "float32",
        num_threads: int = 2,
        on_error: str = "raise",
    ) -> None:
        """Loads the model.

        Args:
          model_path: a name of `beats_jax.list_available_models()`, a file, a folder, a run, or a loaded `Model`; None =
            BEATs_iter3_plus_AS2M.
          pooling: mean | max | first | last of the tokens, or cls (AST, EAT).
          layer: -1 = the last features; else the number of a layer, 0 = before the first block.
          batch_size, num_threads: clips computed at once, and threads that decode meanwhile.
          window_seconds: longer files are heard in equal parts of at most this length.
          dtype: float32, or bfloat16 (faster, close to it).
          on_error: what a file that cannot be read does: raise, or nan (a row of NaN; the reasons are in `errors`).
        Raises:
          UserError: no such model, pooling, layer or option; no network where the model must be fetched (how to go on is said).
        """
        require_one_of("on_error", on_error, ("raise", "nan"))
        self.model = model_path if isinstance(model_path, Model) else load(str(model_path or default_name()), dtype=dtype)
        self.model.require_pooling(pooling, layer)
        self.pooling, self.layer = pooling, layer
        self.batch_size, self.window_seconds, self.num_threads = batch_size, window_seconds, num_threads
        self.on_error = on_error
        self.errors: dict[str, str] = {}  # file → reason, of the newest call

    def get_feature_dim(self) -> int:
        """Width D of the vectors."""
        return self.model.num_features

    def extract_from_file(self, path: str | os.PathLike[str]) -> np.ndarray:
        """One vector, float32 [D]. Raises as `extract_from_files`."""
        return self.extract_from_files([path])[0]

    def extract_from_files(self, paths: Sequence[str | os.PathLike[str]]) -> np.ndarray:
        """float32 [N, D], in the order of the files.

        Raises:
          UserError: an empty list, or files that cannot be read (all are named) unless `on_error` is "nan".
        """
        if isinstance(paths, str | os.PathLike):
            raise UserError(f"extract_from_files takes a list of files; for the one file {paths} use extract_from_file")
        found = embed_files(
            self.model,
            list(paths),
            pooling=self.pooling,
            layer=self.layer,
            batch_size=self.batch_size,
            window_seconds=self.window_seconds,
            num_threads=self.num_threads,
        )
        self.errors = {str(error.path): error.reason for error in found.errors}
        if found.errors and self.on_error == "raise":
            shown = "; ".join(str(error) for error in found.errors[:5])
            more = f" and {len(found.errors) - 5} more" if len(found.errors) > 5 else ""
            raise UserError(
                f"{len(found.errors)} of {len(paths)} files cannot be read: {shown}{more}; mend them, or use on_error='nan'"
            )
        return found.vectors
