"""From a path to a ready `Model`: published PyTorch files, our own model folders, and runs of `python -m beats_jax.train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from beats_jax.config import AudioConfig, FilterbankConfig
from beats_jax.errors import UserError
from beats_jax.weights import beats
from beats_jax.weights.bundle import FACTS_FILE, TENSORS_FILE, Bundle, load_bundle
from beats_jax.weights.model import Encoding, Model
from beats_jax.weights.torch_file import read_torch_file

__all__ = ["Encoding", "Model", "load", "read_checkpoint"]

RUN_MODEL_FOLDER = "model"  # where a run keeps its model folder
_STATISTICS = {"fbank_mean": "mean", "fbank_std": "std"}  # names in an OpenBEATs cfg → FilterbankConfig


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
    if path.suffix == ".safetensors":
        return load_bundle(path)
    if path.name == FACTS_FILE:
        return load_bundle(path.parent)
    return _from_torch_file(path)


def _model_folder(path: Path) -> Path:
    tried = [path, path / RUN_MODEL_FOLDER]
    for folder in tried:
        if (folder / TENSORS_FILE).is_file():
            return folder
    names = " nor ".join(str(folder / TENSORS_FILE) for folder in tried)
    raise UserError(f"{path} holds no model: there is neither {names}; a run has one when its training is finished")


def _from_torch_file(path: Path) -> Bundle:
    content = read_torch_file(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a BEATs checkpoint with 'cfg' and 'model'")
    state_dict, cfg = content.get("model", content), content.get("cfg")
    try:
        if not isinstance(state_dict, Mapping):
            raise UserError(f"'model' is a {type(state_dict).__name__}, not a state dict")
        beats.refuse_other_families(state_dict)
        if "model" not in content or not isinstance(cfg, Mapping):
            found = ", ".join(map(str, list(content)[:5]))
            raise UserError(f"it lacks 'cfg' and 'model' of a published BEATs file; it holds {found} ...")
        config, params = beats.from_torch(state_dict, cfg)
        labels = _labels(content.get("label_dict"), config.predictor_class)
        audio = AudioConfig(filterbank=_filterbank(cfg))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    # Published heads were trained on several labels a clip: probabilities are sigmoids.
    ignored = [name for name in beats.config_from_cfg(cfg, state_dict)[1] if name not in _STATISTICS]
    source = path.name + (f" (cfg entries not used: {', '.join(ignored)})" if ignored else "")
    return Bundle(params, replace(config, checkpoint=""), audio, labels, config.predictor_class > 0, source)


def _filterbank(cfg: Mapping[str, Any]) -> FilterbankConfig:
    """BEATs' front-end, with the statistics that OpenBEATs notes in its cfg."""
    given = {ours: float(cfg[theirs]) for theirs, ours in _STATISTICS.items() if isinstance(cfg.get(theirs), int | float)}
    return replace(FilterbankConfig(), **given)


def _labels(label_dict: Any, num_classes: int) -> tuple[str, ...]:
    """Class names by index; the index itself where the file names none."""
    if num_classes == 0 or label_dict is None:
        return tuple(str(i) for i in range(num_classes))
    if not isinstance(label_dict, Mapping) or not all(str(key).isdecimal() for key in label_dict):
        raise UserError("label_dict must map class numbers to names")
    names = {int(key): str(name) for key, name in label_dict.items()}
    if sorted(names) != list(range(num_classes)):
        raise UserError(f"label_dict has {len(names)} classes; the head needs names for 0 to {num_classes - 1}")
    return tuple(names[i] for i in range(num_classes))
