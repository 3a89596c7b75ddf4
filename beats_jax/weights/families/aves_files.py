"""BEATs of the Earth Species Project: NatureLM-audio and AVES2, in the layout of earthspecies/avex.

The encoder is under `backbone.` or without prefix, the head under `classifier.`; there is no cfg. AVEX builds the released
architecture for such a file (avex/models/beats_model.py) and reads the rest from its YAML, which belongs beside the file as
config.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from beats_jax.audio.filterbank import fft_samples, mel_matrix
from beats_jax.config import AudioConfig, FilterbankConfig
from beats_jax.errors import UserError
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.families import beats
from beats_jax.weights.families.beats_files import front_end, is_official, labels_of
from beats_jax.weights.families.key_map import require_known, shape_of, to_params, without_prefix
from beats_jax.weights.raw import RawCheckpoint, group

BACKBONE, HEAD = "backbone.", "classifier."
# AudioSet head of the checkpoint that training started from; AVEX keeps it in the file and never calls it.
DEAD_KEYS = ("predictor.weight", "predictor.bias")
WINDOW, MEL = "fbank.window", "fbank.mel_fb"  # the front-end as buffers, in files of newer versions
# Settings that no tensor shows, from the cfg of the fine-tuned AudioSet-2M models from which all of these descend.
RULE = {"activation_fn": "gelu", "layer_norm_first": False, "deep_norm": True, "max_distance": 800}
REMEDY = "put AVEX's YAML of this model beside the file as config.yaml"
RATE = "model_spec.audio_config.sample_rate"


def is_aves(raw: RawCheckpoint) -> bool:
    """An encoder under `backbone.`, or without prefix and not of the released layout; neither has a cfg."""
    if raw.has(f"{BACKBONE}patch_embedding.weight"):
        alone = all(str(key).startswith(BACKBONE) for key in raw.state_dict)
        return not (alone and raw.has_cfg and raw.beside("config.yaml") is None)
    return raw.has("patch_embedding.weight") and not raw.has_prefix("quantize") and not is_official(raw)


def read_aves(raw: RawCheckpoint) -> Bundle:
    """Reads the encoder, and the head if there is one (trained with binary cross-entropy: sigmoid).

    Raises:
      UserError: tensors that belong to neither, an architecture or a sample rate that is stated wrongly or not at all, a
        front-end that beats_jax does not have.
    """
    prefix = BACKBONE if raw.has(f"{BACKBONE}patch_embedding.weight") else ""
    head = without_prefix(raw.state_dict, HEAD)
    require_known([key for key in map(str, raw.state_dict) if not key.startswith((prefix, HEAD))])
    tensors = beats.release_names(without_prefix(raw.state_dict, prefix))
    dropped = [key for key in DEAD_KEYS if tensors.pop(key, None) is not None]
    tensors = {key: value for key, value in tensors.items() if not key.startswith(HEAD)}
    buffers = {key: tensors.pop(key) for key in (WINDOW, MEL) if key in tensors}
    spec = group(group(raw.beside("config.yaml"), "config.yaml").get("model_spec"), "config.yaml: model_spec")
    init = group(spec.get("init_config"), "config.yaml: model_spec.init_config")
    classes = shape_of(head, "weight", 2)[0] if head else 0
    stated = {**RULE, **raw.stated, **init, "predictor_dropout": 0.0}
    config = beats.config_from_tensors(tensors, stated, classes, REMEDY)
    tensors |= {f"predictor.{key}": value for key, value in head.items()}
    params = to_params(beats.publish_keys(tensors, config), beats.key_table(config), config)
    audio = _audio(group(spec.get("audio_config"), "config.yaml: model_spec.audio_config"), stated)
    _check_buffers(buffers, audio.filterbank)
    notes = [] if init else ["no cfg: that of BEATs fine-tuned on AudioSet-2M by AVEX's rule"]
    notes += ["AudioSet predictor of its starting point left out"] if dropped else []
    source = raw.path.name + (f" ({'; '.join(notes)})" if notes else "")
    return Bundle(params, config, audio, _labels(raw, classes), classes > 0, source)


def _audio(settings: Mapping[str, Any], stated: Mapping[str, Any]) -> AudioConfig:
    """The front-end at the rate of the YAML or the registry; files of 16 and 32 kHz look alike."""
    rate = settings.get("sample_rate", stated.get("sample_rate"))
    if rate is None:
        raise UserError(
            f"its sample rate is stated nowhere; load it by its registered name, or {REMEDY} ({RATE}); "
            "for the released layout its cfg.json is missing"
        )
    filterbank = front_end(stated)
    if rate != filterbank.sample_rate:
        raise UserError(
            f"it reads sound of {rate} Hz through a filterbank for {filterbank.sample_rate} Hz (sample_frequency in "
            "model_spec.init_config); beats_jax has no such front-end"
        )
    return AudioConfig(filterbank=filterbank)


def _check_buffers(buffers: Mapping[str, Any], config: FilterbankConfig) -> None:
    """Raises `UserError` if the front-end in the file differs from the stated one, which we compute."""
    mel = np.zeros((fft_samples(config) // 2 + 1, config.num_mel_bins))
    mel[:-1] = mel_matrix(config)
    for key, ours in ((WINDOW, np.hanning(config.frame_samples) ** 0.85), (MEL, mel)):
        theirs = buffers.get(key, ours)
        if np.shape(theirs) != ours.shape or not np.allclose(theirs, ours, rtol=0, atol=1e-3):
            raise UserError(
                f"{key} is not that of a filterbank of {config.sample_rate} Hz and {config.num_mel_bins} mel bins; {REMEDY}"
            )


def _labels(raw: RawCheckpoint, classes: int) -> tuple[str, ...]:
    """Class names of `label_map.json` (name → number); the numbers if there is none."""
    given = raw.beside("label_map.json") if classes else None
    if given is None:
        return labels_of(None, classes)
    numbers = group(given, "label_map.json")
    if len(set(map(str, numbers.values()))) != len(numbers):
        raise UserError("label_map.json gives several classes one number")
    return labels_of({number: name for name, number in numbers.items()}, classes)
