"""BEATs of ESPnet: training checkpoints (also DeepSpeed's) and fine-tuned models, with `config.yaml` beside.

The encoder is under `encoder.`, the rest under `decoder.`: the predictor of pre-training, which is dropped, or the linear head of
a fine-tuned model (espnet2/beats/encoder.py, espnet2/cls). A released file also has keys that begin with `encoder.`; only a patch
embedding below that prefix distinguishes the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.families import beats
from beats_jax.weights.families.beats_files import front_end
from beats_jax.weights.families.key_map import require_known, shape_of, to_params, without_prefix
from beats_jax.weights.raw import RawCheckpoint, group, pick_stated

ENCODER, HEAD = "encoder.", "decoder.linear_out."
PREDICTOR = re.compile(r"decoder\.(mask_token|decoder_(embed|norm|pred)\.(weight|bias)|decoder_blocks\.\d+\..+)")
SPECIAL_TOKENS = ("<blank>", "<unk>")  # end a list of classes and have no row in the head (espnet2/tasks/cls.py)
CLASSIFICATION_TYPES = {"multi-label": True, "multi-class": False}  # the second is the class default

# Settings that make another model than an encoder with a mean-pooled head, and the value under which they do not.
ENCODER_SETTINGS = {
    "max_layer": None, "downsampling_rate": 1, "adapter_config": "", "use_weighted_representation": False,
    "add_positional_information": False,
}  # fmt: skip
DECODER_SETTINGS = {"pooling": "mean"}
STATISTICS = ("fbank_mean", "fbank_std")
REMEDY = (
    "put the cfg of the checkpoint that training started from beside the file as cfg.json, or a config.yaml whose "
    "encoder_conf.beats_config has it"
)


def is_espnet(raw: RawCheckpoint) -> bool:
    """An encoder under `encoder.`. Without other keys and with a `cfg` in the file it is a wrapped released one."""
    alone = all(str(key).startswith(ENCODER) for key in raw.state_dict)
    return raw.has(f"{ENCODER}patch_embedding.weight") and not (alone and "cfg" in raw.content)


def read_espnet(raw: RawCheckpoint) -> Bundle:
    """Reads the encoder, and the head of a fine-tuned model.

    Raises:
      UserError: a tensor that belongs to neither, settings of another model, a setting that neither tensors nor files show, a
        head without `config.yaml`.
    """
    run = group(raw.beside("config.yaml"), "config.yaml")
    conf = group(run.get("encoder_conf"), "config.yaml: encoder_conf")
    _require_settings(conf, ENCODER_SETTINGS, "encoder_conf")
    predictor = [key for key in map(str, raw.state_dict) if PREDICTOR.fullmatch(key)]
    head = without_prefix(raw.state_dict, HEAD)
    require_known([key for key in map(str, raw.state_dict) if not key.startswith((ENCODER, HEAD)) and key not in predictor])
    tensors = beats.release_names(without_prefix(raw.state_dict, ENCODER))
    require_known([f"{ENCODER}{key}" for key in tensors if key.startswith("predictor.")])
    labels, multi_label = _classes(run, head)
    stated = _parse_encoder(raw, run, conf)
    config = beats.config_from_tensors(tensors, stated, len(labels), REMEDY)
    tensors |= {f"predictor.{key}": value for key, value in head.items()}
    params = to_params(beats.publish_keys(tensors, config), beats.key_table(config), config)
    notes = [f"{len(predictor)} tensors of the pre-training predictor left out"] if predictor else []
    if not any(stated.get(name) is not None for name in STATISTICS):
        notes.append("no filterbank statistics stated, BEATs' own taken")
    source = raw.path.name + (f" ({'; '.join(notes)})" if notes else "")
    return Bundle(params, config, AudioConfig(filterbank=front_end(stated)), labels, multi_label, source)


def _parse_encoder(raw: RawCheckpoint, run: Mapping[str, Any], conf: Mapping[str, Any]) -> dict[str, Any]:
    """The stated settings of the encoder, by the names of a released cfg; later sources override earlier ones.

    Class defaults hold for a run from random weights only: one that starts from a checkpoint takes that one's cfg.
    """
    fresh = "encoder_conf" in run and not conf.get("beats_ckpt_path")
    stated = {**(beats.PUBLISHED_DEFAULTS if fresh else {}), **raw.stated}
    stated |= group(raw.beside("cfg.json"), "cfg.json")
    stated |= pick_stated(conf, STATISTICS)
    stated |= group(conf.get("beats_config"), "config.yaml: encoder_conf.beats_config")
    decoder_conf = group(run.get("decoder_conf"), "config.yaml: decoder_conf")
    return stated | {"predictor_dropout": decoder_conf.get("dropout", 0.0)}


def _classes(run: Mapping[str, Any], head: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Class names, and whether a clip can have several; no names for an encoder without a head."""
    if not head:
        return (), False
    if not run:
        raise UserError("config.yaml is not beside the file; it names the classes of the head: get it from the same place")
    _require_settings(group(run.get("decoder_conf"), "config.yaml: decoder_conf"), DECODER_SETTINGS, "decoder_conf")
    kind = group(run.get("model_conf"), "config.yaml: model_conf").get("classification_type", "multi-class")
    if kind not in CLASSIFICATION_TYPES:
        raise UserError(f"config.yaml: classification_type is {kind!r}; known: {', '.join(CLASSIFICATION_TYPES)}")
    tokens = run.get("token_list")
    if not isinstance(tokens, list):
        raise UserError(f"config.yaml: token_list is a {type(tokens).__name__}, not the list of classes")
    names = [str(token) for token in tokens]
    while names and names[-1] in SPECIAL_TOKENS:
        names.pop()
    rows = shape_of(head, "weight", 2)[0]
    if len(names) != rows or set(names) & set(SPECIAL_TOKENS):
        raise UserError(f"config.yaml: token_list has {len(names)} classes before <blank> and <unk>, the head {rows}")
    return tuple(names), CLASSIFICATION_TYPES[kind]


def _require_settings(given: Mapping[str, Any], required: Mapping[str, Any], where: str) -> None:
    wrong = [f"{name} is {given[name]!r}" for name, value in required.items() if given.get(name) not in (None, value)]
    if wrong:
        raise UserError(f"config.yaml: {where} asks for a model that beats_jax does not have: {'; '.join(wrong)}")
