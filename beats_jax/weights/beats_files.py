"""The layouts in which BEATs encoders are published, each as two functions: does a file have it, and what model is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from beats_jax.config import AudioConfig, FilterbankConfig
from beats_jax.errors import UserError
from beats_jax.weights import beats
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.raw import RawCheckpoint
from beats_jax.weights.upstream import Upstream

_STATISTICS = {"fbank_mean": "mean", "fbank_std": "std"}  # names in an OpenBEATs cfg → FilterbankConfig


def is_official(raw: RawCheckpoint) -> bool:
    """The encoder's keys bare: {'cfg', 'model'[, 'label_dict']}, or safetensors with the same keys."""
    bare = raw.has("patch_embedding.weight") and not raw.has_prefix("quantize")
    return bare and (raw.wrapper == "model" or raw.path.suffix.lower() == ".safetensors")


def read_official(raw: RawCheckpoint) -> Bundle:
    """The 15 released files, and what other code saves in their layout (OpenBEATs, bioacoustics-dl with epoch and optimizer).

    Safetensors have their `cfg.json` (and `label_dict.json`) beside them.
    """
    cfg = raw.content.get("cfg", raw.beside("cfg.json"))
    if cfg is None:
        raise UserError("the architecture is missing: there is neither an entry 'cfg' in it nor a file cfg.json beside it")
    if not isinstance(cfg, Mapping):
        raise UserError(f"'cfg' is a {type(cfg).__name__}, not a mapping of settings")
    config, params = beats.from_torch(raw.state_dict, cfg)
    labels = labels_of(raw.content.get("label_dict", raw.beside("label_dict.json")), config.predictor_class)
    # Published heads were trained on several labels a clip: probabilities are sigmoids.
    ignored = [name for name in beats.config_from_cfg(cfg, raw.state_dict)[1] if name not in _STATISTICS]
    source = raw.path.name + (f" (cfg entries not used: {', '.join(ignored)})" if ignored else "")
    return Bundle(params, config, AudioConfig(filterbank=front_end(cfg)), labels, config.predictor_class > 0, source)


def write_official(bundle: Bundle) -> Upstream:
    """The released layout: {'cfg', 'model'} and, for a model with a head, 'label_dict'.

    Statistics of the front-end that are not BEATs' own stand in `cfg` under OpenBEATs' names; the released code has no place for
    them.
    """
    state_dict, cfg = beats.to_torch(bundle.params, bundle.model), beats.to_cfg(bundle.model)  # type: ignore[arg-type]
    ours, plain = bundle.audio.filterbank, FilterbankConfig()
    require_published_front_end(replace(ours, mean=plain.mean, std=plain.std))
    cfg |= {theirs: getattr(ours, name) for theirs, name in _STATISTICS.items() if getattr(ours, name) != getattr(plain, name)}
    content: dict[str, Any] = {"cfg": cfg, "model": state_dict}
    beside: dict[str, Any] = {"cfg.json": cfg}
    if bundle.labels:
        content["label_dict"] = beside["label_dict.json"] = dict(enumerate(bundle.labels))
    return Upstream(content, state_dict, beside)


def require_published_front_end(config: FilterbankConfig) -> None:
    """Raises `UserError` for a filterbank that the published code cannot be told of."""
    plain = FilterbankConfig()
    other = [f.name for f in fields(plain) if getattr(config, f.name) != getattr(plain, f.name)]
    if other:
        raise UserError(f"the published BEATs code has one filterbank; this model was trained with another {', '.join(other)}")


def front_end(cfg: Mapping[str, Any]) -> FilterbankConfig:
    """BEATs' front-end, with the statistics that OpenBEATs notes in its cfg."""
    given = {ours: float(cfg[theirs]) for theirs, ours in _STATISTICS.items() if isinstance(cfg.get(theirs), int | float)}
    return replace(FilterbankConfig(), **given)


def labels_of(label_dict: Any, num_classes: int) -> tuple[str, ...]:
    """Class names by index; the index itself where the file names none."""
    if num_classes == 0 or label_dict is None:
        return tuple(str(i) for i in range(num_classes))
    if not isinstance(label_dict, Mapping) or not all(str(key).isdecimal() for key in label_dict):
        raise UserError("label_dict must map class numbers to names")
    names = {int(key): str(name) for key, name in label_dict.items()}
    if sorted(names) != list(range(num_classes)):
        raise UserError(f"label_dict has {len(names)} classes; the head needs names for 0 to {num_classes - 1}")
    return tuple(names[i] for i in range(num_classes))
