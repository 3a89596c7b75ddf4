"""EAT weights: published keys to our parameter tree and back, and the configurations that the files state.

Three layouts: fairseq pre-training, fairseq fine-tuned, Hugging Face (sources: EAT models/EAT_pretraining.py,
EAT_audio_classification.py, images.py; worstchan/EAT-* configuration_eat.py, eat_model.py). They differ in names only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from beats_jax.config import EATConfig, from_mapping
from beats_jax.errors import UserError
from beats_jax.weights.families.key_map import PATCH, SAME, TABLE, VECTOR, Rule, depth_of, linear, norm, shape_of

MEL_BINS = 128  # every published EAT; its files do not state it
HEAD_WIDTH = 64  # of one attention head in every published EAT: gives the number of heads where a file does not
DECODER = "modality_encoders.IMAGE.decoder."  # tensors that only pre-training uses begin like this
TEACHER = "_ema"  # entry of a pre-training state dict: the teacher's own state dict


class Layout(NamedTuple):
    """Where a layout keeps its tensors."""

    encoder: str  # begins every key of the encoder
    embeddings: str  # follows it for all that comes before the blocks
    pre_norm: str  # name of the norm before the blocks
    head: str  # begins the keys of the head


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
    """The tensors of a pre-training state dict that its encoder uses: neither the decoder's nor the teacher."""
    return {str(key): value for key, value in state_dict.items() if key != TEACHER and not str(key).startswith(DECODER)}


def teacher(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher's tensors in a pre-training state dict, under the same names.

    Raises:
      UserError: there are none.
    """
    found = state_dict.get(TEACHER)
    if not isinstance(found, Mapping):
        raise UserError(f"the file holds no teacher (entry {TEACHER!r}); read the student, or get a pre-training checkpoint")
    return student(found)


def config_of(state_dict: Mapping[str, Any], layout: Layout, settings: Mapping[str, Any], classes: int | None) -> EATConfig:
    """The configuration of a state dict: sizes from its shapes, the rest as a file states it.

    Args:
      settings: `num_heads` (None = not stated) and other fields of `EATConfig` that no shape shows.
      classes: classes of the head by the file's own word; None = by the shape of its weight, without a head 0.
    Raises:
      UserError: a tensor that gives a size is missing or of the wrong rank; sizes that exclude each other.
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
    if heads is None and width % HEAD_WIDTH:
        raise UserError(f"num_heads is not stated, and the width {width} is not a multiple of {HEAD_WIDTH}, which would give it")
    if not 1 <= patch <= MEL_BINS or not width:
        raise UserError(f"{front}local_encoder.proj.weight has patches of {patch} of {MEL_BINS} mel bins and {width} channels")
    sizes = {
        "embed_dim": width,
        "depth": depth_of(state_dict, f"{layout.encoder}blocks."),
        "num_heads": width // HEAD_WIDTH if heads is None else heads,
        "mlp_ratio": hidden / width,
        "patch_size": patch,
        "mel_bins": MEL_BINS,
        "max_length": rows // (MEL_BINS // patch),
        "predictor_class": classes or 0,
    }
    return from_mapping(EATConfig, {**settings, **sizes}, "cfg")


def require_settings(given: Mapping[str, Any], required: Mapping[str, Any], where: str) -> None:
    """Raises `UserError` naming every setting that is given and asks for a model other than the published EAT."""
    wrong = [f"{name} is {given[name]!r}, not {value!r}" for name, value in required.items() if given.get(name, value) != value]
    if wrong:
        raise UserError(f"{where} asks for a model that beats_jax does not have: {'; '.join(wrong)}")
