"""The layout in which BEATs encoders and tokenizers are released: its recognition, readers and writers."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
_FRONT_END = {  # and in a cfg of AVEX, which also trains at other rates
    **_STATISTICS, "sample_frequency": "sample_rate", "num_mel_bins": "num_mel_bins", "frame_length": "frame_length_ms",
    "frame_shift": "frame_shift_ms",
}  # fmt: skip
MOST_NAMED = 50  # unused entries of a cfg
SOFTMAX = "beats_jax_softmax"  # entry of a cfg that we write for a head trained on one label a clip; other readers ignore it


def is_official(raw: RawCheckpoint) -> bool:
    """{'cfg', 'model'[, 'label_dict']} with keys without prefix, or these tensors alone with cfg.json beside them."""
    return raw.has("patch_embedding.weight") and not raw.has_prefix("quantize") and _is_released(raw)


def is_tokenizer(raw: RawCheckpoint) -> bool:
    """The same with a quantiser."""
    return raw.has("patch_embedding.weight", "quantize_layer.0.weight", "quantize.embedding.weight") and _is_released(raw)


def _is_released(raw: RawCheckpoint) -> bool:
    # The wrapper of the released files counts too, so that the error can name a missing cfg.
    return raw.has_cfg or raw.wrapper not in ("", "model_state_dict")


def read_official(raw: RawCheckpoint) -> Bundle:
    """Reads the 15 released files, and files of OpenBEATs and bioacoustics-dl in the same layout.

    Tensors alone need `cfg.json` (and `label_dict.json`) beside them.
    """
    cfg = raw.cfg()
    config, params = beats.from_torch(raw.state_dict, cfg)
    labels = labels_of(raw.content.get("label_dict", raw.beside("label_dict.json")), config.predictor_class)
    source = _source(raw, {*beats.PUBLISHED_DEFAULTS, "finetuned_model"})
    # Published heads were trained on several labels a clip: probabilities are sigmoids.
    multi_label = config.predictor_class > 0 and not cfg.get(SOFTMAX, False)
    return Bundle(params, config, AudioConfig(filterbank=front_end(cfg)), labels, multi_label, source)


def read_tokenizer(raw: RawCheckpoint) -> Bundle:
    """Reads the released tokenizers, in the same layout."""
    cfg = raw.cfg()
    config, params = tokenizer.from_torch(raw.state_dict, cfg)
    source = _source(raw, {*tokenizer.PUBLISHED_DEFAULTS})
    return Bundle(params, config, AudioConfig(filterbank=front_end(cfg)), (), False, source)


def _source(raw: RawCheckpoint, used: set[str]) -> str:
    ignored = sorted({str(name) for name in raw.cfg()} - used - _FRONT_END.keys() - {SOFTMAX})
    return raw.path.name + (f" (cfg entries not used: {', '.join(map(shorten, ignored[:MOST_NAMED]))})" if ignored else "")


def write_tokenizer(bundle: Bundle) -> Upstream:
    """Converts a tokenizer to the released layout {'cfg', 'model'}."""
    config = cast(TokenizerConfig, bundle.model)
    return _write(bundle, to_state_dict(bundle.params, tokenizer.key_table(config), config), tokenizer.to_cfg(config))


def write_official(bundle: Bundle) -> Upstream:
    """Converts an encoder to the released layout: {'cfg', 'model'} and, with a head, 'label_dict'.

    The released code has no place for statistics of the front-end. Those that are not BEATs' own go into `cfg` under OpenBEATs'
    names.
    """
    config = cast(BEATsConfig, bundle.model)
    return _write(bundle, beats.to_torch(bundle.params, config), beats.to_cfg(config))


def _write(bundle: Bundle, state_dict: dict[str, np.ndarray], cfg: dict[str, Any]) -> Upstream:
    ours, plain = bundle.audio.filterbank, FilterbankConfig()
    other = [name for name, value in vars(plain).items() if getattr(ours, name) != value and name not in _STATISTICS.values()]
    if other:
        raise UserError(f"the published BEATs code has one filterbank; this model was trained with another {', '.join(other)}")
    if bundle.labels and not bundle.multi_label:
        cfg[SOFTMAX] = True
    cfg |= {theirs: getattr(ours, name) for theirs, name in _STATISTICS.items() if getattr(ours, name) != getattr(plain, name)}
    content: dict[str, Any] = {"cfg": cfg, "model": state_dict}
    beside: dict[str, Any] = {"cfg.json": cfg}
    if bundle.labels:
        content["label_dict"] = beside["label_dict.json"] = dict(enumerate(bundle.labels))
    return Upstream(content, state_dict, beside)


def front_end(cfg: Mapping[str, Any]) -> FilterbankConfig:
    """BEATs' front-end with the settings of an OpenBEATs or AVEX cfg. Raises `UserError` if one is invalid."""
    given = {ours: cfg[theirs] for theirs, ours in _FRONT_END.items() if cfg.get(theirs) is not None}
    for ours, value in given.items():
        if isinstance(value, float) and isinstance(getattr(FilterbankConfig(), ours), int) and value.is_integer():
            given[ours] = int(value)  # AVEX writes 16000.0
    return from_mapping(FilterbankConfig, given, "cfg")


def labels_by_id(facts: Mapping[str, Any], num_classes: int) -> tuple[str, ...]:
    """Class names of `id2label` in a config.json; transformers writes two names of its own for a model without names."""
    names = facts.get("id2label")
    return labels_of(names if isinstance(names, Mapping) and len(names) == num_classes else None, num_classes)


def labels_of(label_dict: Any, num_classes: int) -> tuple[str, ...]:
    """Class names by index; the index itself if the file names none. Raises `UserError` if some class has no name."""
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
