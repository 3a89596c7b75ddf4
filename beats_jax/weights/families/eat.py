"""EAT weights: published keys to our parameter tree and back, and the configuration of a state dict.

Three layouts: fairseq pre-training, fairseq fine-tuned, Hugging Face (sources: EAT models/EAT_pretraining.py,
EAT_audio_classification.py, images.py; worstchan/EAT-* configuration_eat.py, eat_model.py). They differ in names only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from beats_jax.config import EATConfig, from_mapping
from beats_jax.errors import UserError
from beats_jax.weights.families.key_map import PATCH, SAME, TABLE, VECTOR, Rule, depth_of, heads_of, linear, norm, shape_of

MEL_BINS = 128  # every published EAT; its files do not state it
DECODER = "modality_encoders.IMAGE.decoder."  # prefix of tensors that only pre-training uses
TEACHER = "_ema"  # entry of a pre-training state dict: the teacher's own state dict


class Layout(NamedTuple):
    """Names of a layout's tensors."""

    encoder: str  # prefix of all keys of the encoder
    embeddings: str  # second prefix of tensors before the blocks
    pre_norm: str  # name of the norm before the blocks
    head: str  # prefix of the keys of the head


PRETRAINING = Layout("", "modality_encoders.IMAGE.", "context_encoder.norm", "")
FINE_TUNED = Layout("model.", "modality_encoders.IMAGE.", "context_encoder.norm", "")
HUGGING_FACE = Layout("model.", "", "pre_norm", "model.")


def key_table(config: EATConfig, layout: Layout) -> dict[str, tuple[str, Rule]]:
    """Published key → (our path joined by "/", rule), for every tensor of a model with this configuration."""
    front = layout.encoder + layout.embeddings
    table: dict[str, tuple[str, Rule]] = {
        f"{front}extra_tokens": ("class_token", VECTOR),
        f"{front}local_encoder.proj.weight": ("patch_embedding/kernel", PATCH),
        f"{front}local_encoder.proj.bias": ("patch_embedding/bias", SAME),
        f"{front}fixed_positional_encoder.positions": ("positions", TABLE),
    }
    norm(table, front + layout.pre_norm, "pre_norm")
    for i in range(config.depth):
        theirs, ours = f"{layout.encoder}blocks.{i}", f"blocks_{i}"
        norm(table, f"{theirs}.norm1", f"{ours}/norm1")
        linear(table, f"{theirs}.attn.qkv", f"{ours}/attention/qkv")
        linear(table, f"{theirs}.attn.proj", f"{ours}/attention/proj")
        norm(table, f"{theirs}.norm2", f"{ours}/norm2")
        linear(table, f"{theirs}.mlp.fc1", f"{ours}/fc1")
        linear(table, f"{theirs}.mlp.fc2", f"{ours}/fc2")
    if config.predictor_class > 0:
        norm(table, f"{layout.head}fc_norm", "predictor/norm")
        linear(table, f"{layout.head}head", "predictor/linear")
    return table


def student(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's tensors in a pre-training state dict, without decoder and teacher."""
    return {str(key): value for key, value in state_dict.items() if key != TEACHER and not str(key).startswith(DECODER)}


def config_of(state_dict: Mapping[str, Any], layout: Layout, settings: Mapping[str, Any], classes: int | None) -> EATConfig:
    """The configuration of a state dict: sizes from its shapes, the rest from `settings`.

    Args:
      settings: `num_heads` (None = not stated) and other fields of `EATConfig` that no shape shows.
      classes: classes of the head as the file states them; None = by the shape of its weight, without a head 0.
    Raises:
      UserError: a tensor that gives a size is missing or of the wrong rank; impossible sizes.
    """
    front = layout.encoder + layout.embeddings
    width = shape_of(state_dict, f"{front}extra_tokens", 3)[2]
    patch = shape_of(state_dict, f"{front}local_encoder.proj.weight", 4)[3]
    rows = shape_of(state_dict, f"{front}fixed_positional_encoder.positions", 3)[1]
    hidden = shape_of(state_dict, f"{layout.encoder}blocks.0.mlp.fc1.weight", 2)[0]
    weight = f"{layout.head}head.weight"
    if weight in state_dict and classes != 0:
        classes = shape_of(state_dict, weight, 2)[0]
    heads = settings.get("num_heads")
    if not 1 <= patch <= MEL_BINS or not width:
        raise UserError(f"{front}local_encoder.proj.weight has patches of {patch} of {MEL_BINS} mel bins and {width} channels")
    sizes = {
        "embed_dim": width,
        "depth": depth_of(state_dict, f"{layout.encoder}blocks."),
        "num_heads": heads_of(width) if heads is None else heads,
        "mlp_ratio": hidden / width,
        "patch_size": patch,
        "mel_bins": MEL_BINS,
        "max_length": rows // (MEL_BINS // patch),
        "predictor_class": classes or 0,
    }
    return from_mapping(EATConfig, {**settings, **sizes}, "cfg")
