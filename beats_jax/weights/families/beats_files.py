"""The layout in which BEATs encoders and tokenizers are released: does a file have it, what model is in it, and its writers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, cast

import numpy as np

from beats_jax.config import AudioConfig, BEATsConfig, FilterbankConfig, TokenizerConfig, from_mapping
from beats_jax.errors import UserError
from beats_jax.weights.bundle import Bundle, is_text
from beats_jax.weights.families import beats, tokenizer
from beats_jax.weights.families.key_map import to_state_dict
from beats_jax.weights.pickle_machine import shorten
from beats_jax.weights.raw import RawCheckpoint, Upstream

_STATISTICS = {"fbank_mean": "mean", "fbank_std": "std"}  # names in an OpenBEATs cfg → FilterbankConfig
_FRONT_END = {  # and in a cfg of AVEX, which trains at other rates too
    **_STATISTICS, "sample_frequency": "sample_rate", "num_mel_bins": "num_mel_bins", "frame_length": "frame_length_ms",
    "frame_shift": "frame_shift_ms",
}  # fmt: skip


MOST_NAMED = 50  # of the entries that are not used

SOFTMAX = "beats_jax_softmax"  # entry in a cfg that we write: the head was trained on one label a clip; others do not read it


def is_official(raw: RawCheckpoint) -> bool:
    """The encoder's keys bare: {'cfg', 'model'[, 'label_dict']}, or these tensors alone with cfg.json beside."""
    return raw.has("patch_embedding.weight") and not raw.has_prefix("quantize") and _is_released(raw)


def is_tokenizer(raw: RawCheckpoint) -> bool:
    """The same with a quantiser."""
    return raw.has("patch_embedding.weight", "quantize_layer.0.weight", "quantize.embedding.weight") and _is_released(raw)


def _is_released(raw: RawCheckpoint) -> bool:
    """A cfg goes with it, or the wrapper of the released files, so that the message can say that the cfg is missing."""
    return raw.has_cfg or raw.wrapper not in ("", "model_state_dict")


def read_official(raw: RawCheckpoint) -> Bundle:
    """The 15 released files, and what other code saves in their layout (OpenBEATs, bioacoustics-dl with epoch and optimizer).

    Tensors alone have their `cfg.json` (and `label_dict.json`) beside them.
    """
    cfg = raw.cfg()
    config, params = beats.from_torch(raw.state_dict, cfg)
    labels = labels_of(raw.content.get("label_dict", raw.beside("label_dict.json")), config.predictor_class)
    source = _source(raw, beats.config_from_cfg(cfg, raw.state_dict)[1])
    # Published heads were trained on several labels a clip: probabilities are sigmoids.
    multi_label = config.predictor_class > 0 and not cfg.get(SOFTMAX, False)
    return Bundle(params, config, AudioConfig(filterbank=front_end(cfg)), labels, multi_label, source)


def read_tokenizer(raw: RawCheckpoint) -> Bundle:
    """The released tokenizers, in the same layout."""
    cfg = raw.cfg()
    config, params = tokenizer.from_torch(raw.state_dict, cfg)
    source = _source(raw, tokenizer.config_from_cfg(cfg, raw.state_dict)[1])
    return Bundle(params, config, AudioConfig(filterbank=front_end(cfg)), (), False, source)


def _source(raw: RawCheckpoint, unused: Sequence[str]) -> str:
    ignored = [name for name in unused if name not in _FRONT_END and name != SOFTMAX]
    return raw.path.name + (f" (cfg entries not used: {', '.join(map(shorten, ignored[:MOST_NAMED]))})" if ignored else "")


def write_tokenizer(bundle: Bundle) -> Upstream:
    """The released layout of a tokenizer: {'cfg', 'model'}; all else as `write_official`."""
    config = cast(TokenizerConfig, bundle.model)
    return _write(bundle, to_state_dict(bundle.params, tokenizer.key_table(config), config), tokenizer.to_cfg(config))


def write_official(bundle: Bundle) -> Upstream:
    """The released layout: {'cfg', 'model'} and, for a model with a head, 'label_dict'.

    Statistics of the front-end that are not BEATs' own stand in `cfg` under OpenBEATs' names; the released code has no place for
    them.
    """
    config = cast(BEATsConfig, bundle.model)
    return _write(bundle, beats.to_torch(bundle.params, config), beats.to_cfg(config))


def _write(bundle: Bundle, state_dict: dict[str, np.ndarray], cfg: dict[str, Any]) -> Upstream:
    ours, plain = bundle.audio.filterbank, FilterbankConfig()
    require_published_front_end(replace(ours, mean=plain.mean, std=plain.std))
    if bundle.labels and not bundle.multi_label:
        cfg[SOFTMAX] = True
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
    """BEATs' front-end, with what OpenBEATs and AVEX note of it in a cfg.

    Raises:
      UserError: something there is no number, or no front-end has it.
    """
    given = {ours: cfg[theirs] for theirs, ours in _FRONT_END.items() if cfg.get(theirs) is not None}
    for ours, value in given.items():
        if isinstance(value, float) and isinstance(getattr(FilterbankConfig(), ours), int) and value.is_integer():
            given[ours] = int(value)  # AVEX writes 16000.0
    return from_mapping(FilterbankConfig, given, "cfg")


def labels_of(label_dict: Any, num_classes: int) -> tuple[str, ...]:
    """Class names by index; the index itself where the file names none."""
    if num_classes == 0 or label_dict is None:
        return tuple(str(i) for i in range(num_classes))
    if not isinstance(label_dict, Mapping) or not all(re.fullmatch(r"\d{1,9}", str(key)) for key in label_dict):
        raise UserError("label_dict must map class numbers to names")
    names = {int(key): str(name) for key, name in label_dict.items()}
    if sorted(names) != list(range(num_classes)):
        raise UserError(f"label_dict has {len(names)} classes; the head needs names for 0 to {num_classes - 1}")
    if not all(map(is_text, names.values())):
        raise UserError("label_dict has names that are no text")
    return tuple(names[i] for i in range(num_classes))
