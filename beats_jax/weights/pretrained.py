"""From a path to a ready `Model`: published PyTorch files, our own model folders, and runs of `python -m beats_jax.train`."""

from __future__ import annotations

from pathlib import Path

from beats_jax.errors import UserError
from beats_jax.weights import formats
from beats_jax.weights.bundle import FACTS_FILE, TENSORS_FILE, Bundle, load_bundle
from beats_jax.weights.model import Encoding, Model
from beats_jax.weights.raw import read_raw

__all__ = ["Encoding", "Model", "load", "read_checkpoint"]

RUN_MODEL_FOLDER = "model"  # where a run keeps its model folder


def load(source: str | Path, dtype: str = "float32") -> Model:
    """Loads a model.

    Args:
      source: a published BEATs `.pt` file; a model folder or the `model.safetensors` in it; or the folder of a training run.
      dtype: compute precision, float32 or bfloat16; parameters and results are float32.
    Raises:
      UserError: nothing is there, or it is damaged, of another kind, or does not fit its own configuration.
    """
    return Model(read_checkpoint(source), dtype)


def read_checkpoint(source: str | Path) -> Bundle:
    """What `load` reads, at rest: parameters as numpy arrays, configuration, labels. Arguments and errors as `load`."""
    path = Path(source).expanduser()
    if path.is_dir():
        return load_bundle(_model_folder(path))
    if not path.exists():
        raise UserError(
            f"{str(source)!r} is not there (looked at {path.absolute()}); give the path of a BEATs .pt file, of a model folder "
            f"({TENSORS_FILE}, {FACTS_FILE}) or of a training run"
        )
    if path.name == FACTS_FILE:
        return load_bundle(path.parent)
    if path.suffix.lower() == ".safetensors" and path.with_suffix(".json").is_file():
        return load_bundle(path)
    return formats.read(read_raw(path))


def _model_folder(path: Path) -> Path:
    tried = [path, path / RUN_MODEL_FOLDER]
    for folder in tried:
        if (folder / TENSORS_FILE).is_file():
            return folder
    names = " nor ".join(str(folder / TENSORS_FILE) for folder in tried)
    raise UserError(f"{path} holds no model: there is neither {names}; a run has one when its training is finished")
