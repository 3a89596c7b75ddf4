"""The layouts in which EAT is published: recognition and reader of each, and the writer.

The published layouts lack some of our settings (the pooling before a head, its rule for probabilities, the front-end). Files that
we write hold them in an entry `beats_jax`, which other readers ignore; Hugging Face's own code computes `fc_norm` with 1e-5 and
reads CLS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from beats_jax.audio.filterbank import EAT, EAT_ESC50, EAT_SPEECH_COMMANDS
from beats_jax.config import AudioConfig, EATConfig, FilterbankConfig, from_mapping, to_mapping
from beats_jax.errors import UserError
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.families import eat
from beats_jax.weights.families.beats_files import labels_by_id, labels_of
from beats_jax.weights.families.key_map import require_settings, to_params, to_state_dict
from beats_jax.weights.raw import OURS, RawCheckpoint, Upstream, own_entry, pick_stated

SIZES = ("embed_dim", "depth", "num_heads", "mlp_ratio")
OUR_FIELDS = ("prediction_mode", "fc_norm_eps", "mask_padding", "drop_path_rate")
HUGGING_FACE_EPSILON = 1e-5  # of fc_norm in the Hugging Face code; 1e-6 in the original

# The one architecture that is published as EAT; its code could build others.
ENCODER_SETTINGS = {"layer_norm_first": False, "norm_affine": True}
IMAGE_SETTINGS = {
    "prenet_depth": 0, "num_extra_tokens": 1, "in_chans": 1, "use_alibi_encoder": False, "fixed_positions": True,
}  # fmt: skip
HUGGING_FACE_SETTINGS = {**ENCODER_SETTINGS, "in_chans": 1, "mel_bins": eat.MEL_BINS, "qkv_bias": True, "fixed_positions": True}


def is_pretraining(raw: RawCheckpoint) -> bool:
    """A fairseq pre-training checkpoint: the encoder's keys without prefix."""
    return raw.has("modality_encoders.IMAGE.extra_tokens")


def is_fine_tuned(raw: RawCheckpoint) -> bool:
    """A fairseq fine-tuned checkpoint: the encoder under `model.`, a head beside it; the cfg is not that of pre-training."""
    if not raw.has("model.modality_encoders.IMAGE.extra_tokens"):
        return False
    cfg = raw.content.get("cfg", raw.beside("cfg.json"))
    model = cfg.get("model") if isinstance(cfg, Mapping) else None
    return not (isinstance(model, Mapping) and "modalities" in model)


def is_hugging_face(raw: RawCheckpoint) -> bool:
    """Tensors of the Hugging Face code."""
    return raw.has("model.extra_tokens", "model.pre_norm.weight")


def read_pretraining(raw: RawCheckpoint) -> Bundle:
    """Reads the trained encoder, without decoder and teacher. Raises `UserError` if `cfg` or tensors do not fit."""
    cfg, tensors = raw.cfg(), eat.student(raw.state_dict)
    settings = _encoder_settings(_group(cfg, "model")) | _own_model(raw.content)
    config = eat.config_of(tensors, eat.PRETRAINING, settings, classes=0)
    params = to_params(tensors, eat.key_table(config, eat.PRETRAINING), config)
    return Bundle(params, config, _audio(raw.content, EAT, _target_length(cfg)), (), False, raw.path.name)


def read_fine_tuned(raw: RawCheckpoint) -> Bundle:
    """Reads encoder and head; statistics and probabilities follow the file's switches for its task.

    As in EAT_audio_classification.py, ESC-50 and files without `audio_mae` were trained with cross-entropy (softmax), Speech
    Commands too unless mixup was on, all else (AudioSet) with binary cross-entropy (sigmoid). Raises as `read_pretraining`.
    """
    cfg = raw.cfg()
    model = _group(cfg, "model")
    settings = _encoder_settings(_group(_group(model, "pretrained_model_args"), "model"))
    settings["prediction_mode"] = str(model.get("prediction_mode", "CLS_TOKEN")).rpartition(".")[2]
    settings["drop_path_rate"] = model.get("drop_path_rate", 0.0)
    config = eat.config_of(raw.state_dict, eat.FINE_TUNED, settings | _own_model(raw.content), model.get("num_classes"))
    params = to_params(raw.state_dict, eat.key_table(config, eat.FINE_TUNED), config)
    esc50, commands = bool(model.get("esc50_eval")), bool(model.get("spcv2_eval"))
    mixed = any(model.get(name) for name in ("mixup", "cutmix"))
    multi_label = bool(model.get("audio_mae")) and not esc50 and (mixed or not commands)
    statistics = EAT_ESC50 if esc50 else EAT_SPEECH_COMMANDS if commands else EAT
    audio = _audio(raw.content, statistics, _target_length(cfg))
    labels = labels_of(raw.content.get("label_dict"), config.predictor_class)
    return Bundle(params, config, audio, labels, own_entry(raw.content).get("multi_label", multi_label), raw.path.name)


def read_hugging_face(raw: RawCheckpoint) -> Bundle:
    """Reads tensors with `config.json` beside them; released heads are of AudioSet (sigmoid). Raises as `read_pretraining`."""
    facts = raw.beside("config.json")
    if not isinstance(facts, Mapping):
        raise UserError("config.json is not beside the tensors; get it from the same repository")
    require_settings(facts, HUGGING_FACE_SETTINGS, "config.json")
    settings = {"fc_norm_eps": HUGGING_FACE_EPSILON, **pick_stated(facts, ("num_heads", "norm_eps")), **_own_model(facts)}
    variant = facts.get("model_variant")
    if variant not in (None, "pretrain", "finetune"):
        raise UserError(f"config.json: model_variant is {variant!r}; known: pretrain, finetune")
    classes = {"pretrain": 0, "finetune": facts.get("num_classes", 527), None: None}[variant]
    config = eat.config_of(raw.state_dict, eat.HUGGING_FACE, settings, classes)
    require_settings(facts, {"stride": config.patch_size}, "config.json")
    params = to_params(raw.state_dict, eat.key_table(config, eat.HUGGING_FACE), config)
    labels = labels_by_id(facts, config.predictor_class)
    audio = _audio(facts, EAT, facts.get("target_length"))
    multi_label = own_entry(facts).get("multi_label", config.predictor_class > 0)
    return Bundle(params, config, audio, labels, multi_label, raw.path.name)


def _own_model(content: Mapping[str, Any]) -> dict[str, Any]:
    found = own_entry(content).get("model", {})
    if not isinstance(found, Mapping) or set(found) - set(OUR_FIELDS):
        raise UserError(f"its entry {OURS!r} is damaged: model is {str(found)[:80]}")
    return dict(found)


def _audio(content: Mapping[str, Any], statistics: FilterbankConfig, target_length: Any) -> AudioConfig:
    """The front-end of our own entry, else EAT's with the stated number of frames (else 1024)."""
    if "audio" in (own := own_entry(content)):
        return from_mapping(AudioConfig, own["audio"], f"{OURS}.audio")
    frames = EAT.target_frames if target_length is None else target_length
    if not isinstance(frames, int) or isinstance(frames, bool):
        raise UserError(f"target_length is {frames!r}; it must be a whole number of frames")
    return AudioConfig(filterbank=replace(statistics, target_frames=frames))


def _target_length(cfg: Mapping[str, Any]) -> Any:
    """The length of the data, else of the model; None if neither is stated."""
    groups = [cfg.get(name) for name in ("task", "model")]
    stated = [group.get("target_length") for group in groups if isinstance(group, Mapping)]
    return next((value for value in stated if value is not None), None)


def _encoder_settings(model: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the encoder in a pre-training `cfg.model` that no tensor shows."""
    image = _group(_group(model, "modalities"), "image")
    require_settings(model, ENCODER_SETTINGS, "cfg.model")
    require_settings(image, IMAGE_SETTINGS, "cfg.model.modalities.image")
    return pick_stated(model, ("num_heads", "norm_eps"))


def _group(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = settings.get(name)
    if not isinstance(found, Mapping):
        raise UserError(f"{name!r} is a {type(found).__name__}, not a mapping of settings; an EAT cannot be read without it")
    return found


def write_eat(bundle: Bundle) -> Upstream:
    """The model in fairseq's layout (content) and in Hugging Face's (tensors and `config.json`).

    The encoder alone takes the pre-training layout, with a head the fine-tuned one; there is neither decoder nor teacher.
    """
    config = cast(EATConfig, bundle.model)
    headed = config.predictor_class > 0
    layout = eat.FINE_TUNED if headed else eat.PRETRAINING
    model = to_mapping(config)
    own_model = {name: model[name] for name in OUR_FIELDS}
    own = {"model": own_model, "audio": to_mapping(bundle.audio), "multi_label": bundle.multi_label}
    content: dict[str, Any] = {
        "args": None,
        "cfg": {"model": _fine_tuned_cfg(bundle, config) if headed else _encoder_cfg(config)},
        "model": to_state_dict(bundle.params, eat.key_table(config, layout), config),
        OURS: own,
    }
    if headed:
        content["label_dict"] = dict(enumerate(bundle.labels))
    tensors = to_state_dict(bundle.params, eat.key_table(config, eat.HUGGING_FACE), config)
    return Upstream(content, tensors, {"config.json": {**_config_json(bundle, config), OURS: own}})


def _encoder_cfg(config: EATConfig) -> dict[str, Any]:
    """The settings of the encoder in `cfg.model` of a pre-training file."""
    image = {**IMAGE_SETTINGS, "patch_size": config.patch_size, "max_length": config.max_length, "decoder": None}
    sizes = {name: getattr(config, name) for name in SIZES}
    return {**ENCODER_SETTINGS, **sizes, "norm_eps": config.norm_eps, "skip_ema": True, "modalities": {"image": image}}


def _fine_tuned_cfg(bundle: Bundle, config: EATConfig) -> dict[str, Any]:
    return {
        "_name": "mae_image_classification",
        "num_classes": config.predictor_class,
        "prediction_mode": config.prediction_mode,
        "drop_path_rate": config.drop_path_rate,
        "target_length": bundle.audio.filterbank.target_frames,
        "audio_mae": True,
        "pretrained_model_args": {"model": _encoder_cfg(config)},
    }


def _config_json(bundle: Bundle, config: EATConfig) -> dict[str, Any]:
    head = {"num_classes": config.predictor_class, "id2label": dict(enumerate(bundle.labels))} if bundle.labels else {}
    return {
        **HUGGING_FACE_SETTINGS,
        "model_type": "eat",
        "model_variant": "finetune" if bundle.labels else "pretrain",
        **{name: getattr(config, name) for name in (*SIZES, "norm_eps", "patch_size", "max_length")},
        "stride": config.patch_size,
        **head,
    }
