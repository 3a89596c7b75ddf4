"""Embeddings of audio files in three lines."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from beats_jax.config.rules import require_one_of
from beats_jax.errors import UserError
from beats_jax.inference.files import file_vectors
from beats_jax.inference.model import Model, load
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
        batch_size: int | None = None,
        window_seconds: float | None = None,
        dtype: str = "float32",
        num_threads: int = 4,
        on_error: str = "raise",
    ) -> None:
        """Loads the model.

        Args:
          model_path: a name of `beats_jax.list_available_models()`, a file, a folder, a run, or a loaded `Model`; None =
            BEATs_iter3_plus_AS2M.
          pooling: mean | max | first | last | std of the tokens, or cls (AST, EAT).
          layer: -1 = the last features; else the number of a layer, 0 = before the first block.
          batch_size, num_threads: windows computed at once (None = what suits the device), and files that are decoded meanwhile.
          window_seconds: longer files have several windows of this length, the last of which ends where the sound ends; None =
            as the model was evaluated, else 10 s. The vector pools all tokens of all windows.
          dtype: float32, bfloat16 (faster, close to it), or auto (bfloat16 where the machine computes it natively).
          on_error: what a file that cannot be read does: raise, or nan (a row of NaN; the reasons are in `errors`).
        Raises:
          UserError: no such model, pooling, layer or option; no network where the model must be fetched (with the remedy).
        """
        require_one_of("on_error", on_error, ("raise", "nan"))
        self.model = model_path if isinstance(model_path, Model) else load(str(model_path or default_name()), dtype=dtype)
        self.model.require_pooling(pooling, layer)
        self.pooling, self.layer = pooling, layer
        if (batch_size is not None and batch_size < 1) or num_threads < 1:
            raise UserError(f"batch_size is {batch_size} and num_threads {num_threads}; both must be positive")
        self.grid = self.model.grid(window_seconds)
        self.batch_size, self.num_threads = batch_size, num_threads
        self.on_error = on_error
        self.errors: dict[str, str] = {}  # file → reason, of the newest call

    def __repr__(self) -> str:
        windows = f"windows of {self.grid.window_seconds:g} s"
        return f"<BEATsFeatureExtractor: {self.pooling} of layer {self.layer}, {windows}, {self.model!r}>"

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
        options = {"grid": self.grid, "batch_size": self.batch_size, "threads": self.num_threads}
        found = file_vectors(self.model, list(paths), pooling=self.pooling, layer=self.layer, **options)
        errors = [row.error for row in found if row.error is not None]
        self.errors = {str(error.path): error.reason for error in errors}
        if errors and self.on_error == "raise":
            shown = "; ".join(str(error) for error in errors[:5])
            more = f" and {len(errors) - 5} more" if len(errors) > 5 else ""
            raise UserError(
                f"{len(errors)} of {len(paths)} files cannot be read: {shown}{more}; repair them, or use on_error='nan'"
            )
        nothing = np.full(self.model.num_features, np.nan, np.float32)
        return np.stack([nothing if row.value is None else row.value for row in found])
