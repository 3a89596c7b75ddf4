"""The layouts in which AST is published: recognition and reader of each, and the writer.

Files of the original code state neither front-end nor strides. Those of published sizes are known, others need `config.json` and
`preprocessor_config.json` of Hugging Face beside them, which our writer adds. Settings that these lack stand in an entry
`beats_jax`, which other readers ignore.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np

from beats_jax.audio.filterbank import AST, AST_ESC50, AST_SPEECH_COMMANDS
from beats_jax.config import ASTConfig, AudioConfig, FilterbankConfig, from_mapping, to_mapping
from beats_jax.errors import UserError
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.families import ast
from beats_jax.weights.families.beats_files import labels_by_id
from beats_jax.weights.families.key_map import heads_of, require_settings, shape_of, to_params, to_state_dict
from beats_jax.weights.raw import OURS, RawCheckpoint, Upstream, group, own_entry, pick_stated

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
HUGGING_FACE_SETTINGS = {"model_type": "audio-spectrogram-transformer", "hidden_act": "gelu"}
EXTRACTOR_SETTINGS = {"feature_extractor_type": "ASTFeatureExtractor", "feature_size": 1, "padding_value": 0.0}
STATED = (
    "num_attention_heads", "hidden_dropout_prob", "attention_probs_dropout_prob", "frequency_stride", "time_stride", "max_length",
    "num_mel_bins", "layer_norm_eps",
)  # fmt: skip
ORIGINAL_EPSILONS = {"layer_norm_eps": 1e-6, "head_layer_norm_eps": 1e-5}
PROBLEMS = {"multi_label_classification": True, "single_label_classification": False}  # transformers' `problem_type`
SIGMOID_CLASSES = (527, 35)  # AudioSet and Speech Commands: their recipes use binary cross-entropy


class _Grid(NamedTuple):
    """Stride and front-end of a published file of the original code, known by its number of patches."""

    stride: int
    front_end: FilterbankConfig


PUBLISHED_GRIDS = {
    1212: _Grid(10, AST), 850: _Grid(12, AST), 657: _Grid(14, AST), 512: _Grid(16, AST), 600: _Grid(10, AST_ESC50),
    144: _Grid(10, AST_SPEECH_COMMANDS),
}  # fmt: skip


def is_hugging_face(raw: RawCheckpoint) -> bool:
    """Tensors of transformers, with a head (`ASTForAudioClassification`) or without (`ASTModel`)."""
    return any(raw.has(f"{prefix}embeddings.distillation_token") for prefix in ("audio_spectrogram_transformer.", ""))


def is_original(raw: RawCheckpoint) -> bool:
    """A state dict of the original `ASTModel`, with or without the prefix of `DataParallel`."""
    return raw.has("v.dist_token") or raw.has(f"{ast.PARALLEL}v.dist_token")


def is_deit(raw: RawCheckpoint) -> bool:
    """A distilled DeiT of images."""
    return raw.has("dist_token", "pos_embed", "patch_embed.proj.weight")


def read_hugging_face(raw: RawCheckpoint) -> Bundle:
    """Reads tensors with `config.json` and `preprocessor_config.json` beside them. Raises `UserError` if one does not fit."""
    facts, extractor = raw.beside(CONFIG), raw.beside(PREPROCESSOR)
    if not isinstance(facts, Mapping) or not isinstance(extractor, Mapping):
        raise UserError(f"{CONFIG} and {PREPROCESSOR} must lie beside the tensors; get them from the same repository")
    require_settings(facts, HUGGING_FACE_SETTINGS, CONFIG)
    headed = raw.has("audio_spectrogram_transformer.embeddings.cls_token")
    layout = ast.HUGGING_FACE if headed else ast.HUGGING_FACE_BARE
    settings = {**pick_stated(facts, STATED), **ast.sizes(raw.state_dict, layout)}
    settings.setdefault("layer_norm_eps", 1e-12)
    settings["head_layer_norm_eps"] = own_entry(facts).get("head_layer_norm_eps", settings["layer_norm_eps"])
    config = from_mapping(ASTConfig, settings, CONFIG)
    params = to_params(raw.state_dict, ast.key_table(config, layout), config)
    return _bundle(raw, params, config, facts, _front_end(extractor, config))


def read_original(raw: RawCheckpoint) -> Bundle:
    """Reads a file of the original code, of a published size or with the JSON files of Hugging Face beside it.

    Raises:
      UserError: its strides, length, heads or front-end are stated nowhere, or the tensors do not fit.
    """
    tensors = ast.split_qkv(ast.without_parallel(raw.state_dict))
    facts, extractor = group(raw.beside(CONFIG), CONFIG), raw.beside(PREPROCESSOR)
    known = ast.sizes(tensors, ast.ORIGINAL)
    settings = {**ORIGINAL_EPSILONS, **known}
    patches = shape_of(tensors, ast.ORIGINAL.positions, 3)[1] - 2
    grid = PUBLISHED_GRIDS.get(patches)
    if facts:
        epsilons = own_entry(facts).get("epsilons", ORIGINAL_EPSILONS)
        settings = {**ORIGINAL_EPSILONS, **pick_stated(facts, STATED), **known} | epsilons
    elif grid:
        settings |= {"frequency_stride": grid.stride, "time_stride": grid.stride, "max_length": grid.front_end.target_frames}
    if extractor is None and (facts or not grid):
        raise UserError(
            f"{patches} patches are no published size, so neither strides nor length nor front-end are known; put a {CONFIG} "
            f"(max_length, frequency_stride, time_stride, num_attention_heads) and a {PREPROCESSOR} (mean, std) beside the file"
        )
    if "num_attention_heads" not in settings:
        settings["num_attention_heads"] = heads_of(settings["hidden_size"])
    config = from_mapping(ASTConfig, settings, CONFIG)
    params = to_params(_without_image_heads(tensors, "v."), ast.key_table(config, ast.ORIGINAL), config)
    front_end = grid.front_end if extractor is None and grid else _front_end(group(extractor, PREPROCESSOR), config)
    inferred = [] if facts else ["strides", "length", *(["statistics"] if extractor is None else [])]
    bundle = _bundle(raw, params, config, facts, front_end)
    taken = f" (not stated in it, taken as published with {patches} patches: {', '.join(inferred)})" if inferred else ""
    return replace(bundle, source=f"{raw.path.name}{taken}")


def read_deit(raw: RawCheckpoint) -> Bundle:
    """Reads a distilled DeiT as a start for training AST: colours summed, no head, positions on the grid of the images.

    This grid has as many mel bins as frames, until `pipelines.training.starting_point` resizes it to the trained length.
    Raises `UserError` if the grid is no square or the tensors do not fit.
    """
    tensors = ast.split_qkv(raw.state_dict)
    weight = f"{ast.DEIT.patch}.weight"
    if shape_of(tensors, weight, 4)[1] == 3:
        tensors[weight] = np.asarray(tensors[weight]).sum(axis=1, keepdims=True)  # one channel: the sum over colours
    known = ast.sizes(tensors, ast.DEIT)
    patches = shape_of(tensors, ast.DEIT.positions, 3)[1] - 2
    side = round(max(patches, 0) ** 0.5)
    if side * side != patches or not side:
        raise UserError(f"{ast.DEIT.positions} has {patches} patches, which are no square")
    frames = known["patch_size"] + 10 * (side - 1)
    settings = {**ORIGINAL_EPSILONS, **known, "num_attention_heads": heads_of(known["hidden_size"])}
    config = from_mapping(ASTConfig, {**settings, "max_length": frames, "num_mel_bins": frames, "predictor_class": 0}, "DeiT")
    params = to_params(_without_image_heads(tensors, ""), ast.key_table(config, ast.DEIT), config)
    front_end = replace(AST, target_frames=frames, num_mel_bins=frames)
    return Bundle(
        params, config, AudioConfig(filterbank=front_end), (), False, f"{raw.path.name} (DeiT of images, to train from)"
    )


def write_ast(bundle: Bundle) -> Upstream:
    """The model in the original layout (content) and in Hugging Face's (tensors), and the JSON files beside either.

    The original code loads strictly, so its file gets the two unused image heads as zeros.
    """
    config = cast(ASTConfig, bundle.model)
    headed = config.predictor_class > 0
    original = ast.join_qkv(to_state_dict(bundle.params, ast.key_table(config, ast.ORIGINAL), config))
    layout = ast.HUGGING_FACE if headed else ast.HUGGING_FACE_BARE
    tensors = to_state_dict(bundle.params, ast.key_table(config, layout), config)
    beside = {CONFIG: _config_json(bundle, config), PREPROCESSOR: _preprocessor_json(bundle.audio.filterbank)}
    for name in ast.DEAD:
        width = (config.hidden_size,) if name.endswith("weight") else ()
        original[f"v.{name}"] = np.zeros((ast.IMAGE_CLASSES, *width), np.float32)
    content = {f"{ast.PARALLEL}{key}": value for key, value in original.items()}
    return Upstream(content, tensors, beside, beside_torch=beside)


def _without_image_heads(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    dead = {prefix + name for name in ast.DEAD}
    return {key: value for key, value in tensors.items() if key not in dead}


def _bundle(raw: RawCheckpoint, params: Any, config: ASTConfig, facts: Mapping[str, Any], front_end: FilterbankConfig) -> Bundle:
    labels, own = labels_by_id(facts, config.predictor_class), own_entry(facts)
    audio = from_mapping(AudioConfig, own["audio"], f"{OURS}.audio") if "audio" in own else None
    return Bundle(params, config, audio or AudioConfig(filterbank=front_end), labels, _multi_label(facts, config), raw.path.name)


def _multi_label(facts: Mapping[str, Any], config: ASTConfig) -> bool:
    """By our entry, else by transformers' `problem_type`, else by the number of classes (`SIGMOID_CLASSES`)."""
    if config.predictor_class == 0:
        return False
    kind = facts.get("problem_type")
    if kind not in (None, *PROBLEMS):
        raise UserError(f"{CONFIG}: problem_type is {kind!r}; known: {', '.join(PROBLEMS)}")
    by_problem = PROBLEMS[kind] if kind else config.predictor_class in SIGMOID_CLASSES
    return own_entry(facts).get("multi_label", by_problem)


def _front_end(extractor: Mapping[str, Any], config: ASTConfig) -> FilterbankConfig:
    """The front-end of `preprocessor_config.json`."""
    expected = {**EXTRACTOR_SETTINGS, "max_length": config.max_length, "num_mel_bins": config.num_mel_bins}
    require_settings(extractor, expected, PREPROCESSOR)
    missing = [name for name in ("mean", "std") if not isinstance(extractor.get(name), int | float)]
    if missing:
        raise UserError(f"{PREPROCESSOR} does not state {' and '.join(missing)} of the model's training data")
    normalised = extractor.get("do_normalize", True)
    settings = {
        "sample_rate": extractor.get("sampling_rate", AST.sample_rate),
        "num_mel_bins": config.num_mel_bins,
        "target_frames": config.max_length,
        "mean": extractor["mean"] if normalised else 0.0,
        "std": extractor["std"] if normalised else 0.5,
    }
    return from_mapping(FilterbankConfig, to_mapping(AST) | settings, PREPROCESSOR)


def _config_json(bundle: Bundle, config: ASTConfig) -> dict[str, Any]:
    left_out = ("family", "checkpoint", "predictor_class", "head", "head_layer_norm_eps")
    ours = {field: value for field, value in to_mapping(config).items() if field not in left_out}
    epsilons = {name: getattr(config, name) for name in ORIGINAL_EPSILONS}
    architecture = "ASTForAudioClassification" if bundle.labels else "ASTModel"
    head: dict[str, Any] = {}
    if bundle.labels:
        kind = next(name for name, multi_label in PROBLEMS.items() if multi_label == bundle.multi_label)
        names = {str(i): name for i, name in enumerate(bundle.labels)}
        head = {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}, "problem_type": kind}
    own = {
        "audio": to_mapping(bundle.audio), "multi_label": bundle.multi_label, "epsilons": epsilons,
        "head_layer_norm_eps": config.head_layer_norm_eps,
    }  # fmt: skip
    return {**HUGGING_FACE_SETTINGS, "architectures": [architecture], **ours, **head, OURS: own}


def _preprocessor_json(filterbank: FilterbankConfig) -> dict[str, Any]:
    return {
        **EXTRACTOR_SETTINGS,
        "sampling_rate": filterbank.sample_rate,
        "num_mel_bins": filterbank.num_mel_bins,
        "max_length": filterbank.target_frames,
        "mean": filterbank.mean,
        "std": filterbank.std,
        "do_normalize": True,
        "padding_side": "right",
        "return_attention_mask": False,
    }
