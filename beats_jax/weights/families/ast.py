"""AST weights: published keys to our parameter tree and back, and the sizes of a state dict.

Layouts: Hugging Face with or without a head, the original, and DeiT, from which AST is trained (sources: YuanGongND/ast
src/models/ast_models.py, timm 0.4.5 vision_transformer.py, the conversion script of transformers).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from beats_jax.config import ASTConfig
from beats_jax.errors import UserError
from beats_jax.weights.families.key_map import PATCH, SAME, TABLE, VECTOR, Rule, linear, norm, shape_of

PARTS = ("query", "key", "value")  # rows of a fused projection, in this order


class Layout(NamedTuple):
    """Names of a layout's tensors; `{i}` stands for the number of a block, `{part}` for query, key or value."""

    class_token: str
    distillation_token: str
    positions: str
    patch: str
    block: str
    norm1: str
    qkv: str
    out: str
    norm2: str
    fc1: str
    fc2: str
    norm: str
    head_norm: str
    head: str


def _hugging_face(prefix: str) -> Layout:
    return Layout(
        f"{prefix}embeddings.cls_token", f"{prefix}embeddings.distillation_token", f"{prefix}embeddings.position_embeddings",
        f"{prefix}embeddings.patch_embeddings.projection", f"{prefix}encoder.layer.{{i}}.", "layernorm_before",
        "attention.attention.{part}.{kind}", "attention.output.dense", "layernorm_after", "intermediate.dense", "output.dense",
        f"{prefix}layernorm", "classifier.layernorm", "classifier.dense",
    )  # fmt: skip


def _timm(prefix: str) -> Layout:
    return Layout(
        f"{prefix}cls_token", f"{prefix}dist_token", f"{prefix}pos_embed", f"{prefix}patch_embed.proj", f"{prefix}blocks.{{i}}.",
        "norm1", "attn.qkv.{kind}[{part}]", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2", f"{prefix}norm",
        "mlp_head.0", "mlp_head.1",
    )  # fmt: skip


HUGGING_FACE = _hugging_face("audio_spectrogram_transformer.")
HUGGING_FACE_BARE = _hugging_face("")
ORIGINAL = _timm("v.")
DEIT = _timm("")

PARALLEL = "module."  # prefix of all keys of a model that was trained on several GPUs
DEAD = ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")  # heads for images, which AST never uses
IMAGE_CLASSES = 1000


def key_table(config: ASTConfig, layout: Layout) -> dict[str, tuple[str, Rule]]:
    """Published key → (our path joined by "/", rule), for every tensor of a model with this configuration.

    Fused projections of timm have one entry for each part, as `split_qkv` names them.
    """
    table: dict[str, tuple[str, Rule]] = {
        layout.class_token: ("class_token", VECTOR),
        layout.distillation_token: ("distillation_token", VECTOR),
        layout.positions: ("positions", TABLE),
        f"{layout.patch}.weight": ("patch_embedding/kernel", PATCH),
        f"{layout.patch}.bias": ("patch_embedding/bias", SAME),
    }
    for i in range(config.num_hidden_layers):
        theirs, ours = layout.block.format(i=i), f"blocks_{i}"
        norm(table, theirs + layout.norm1, f"{ours}/norm1")
        for part in PARTS:
            both: dict[str, tuple[str, Rule]] = {}
            linear(both, "", f"{ours}/attention/{part[0]}_proj", bias=config.qkv_bias)
            table |= {theirs + layout.qkv.format(part=part, kind=kind[1:]): entry for kind, entry in both.items()}
        linear(table, theirs + layout.out, f"{ours}/attention/out_proj")
        norm(table, theirs + layout.norm2, f"{ours}/norm2")
        linear(table, theirs + layout.fc1, f"{ours}/fc1")
        linear(table, theirs + layout.fc2, f"{ours}/fc2")
    norm(table, layout.norm, "norm")
    if config.predictor_class > 0:
        norm(table, layout.head_norm, "predictor/norm")
        linear(table, layout.head, "predictor/linear")
    return table


def without_parallel(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors without the prefix of `DataParallel`. Raises `UserError` if only some keys have it."""
    bare = [str(key) for key in state_dict if not str(key).startswith(PARALLEL)]
    if bare and len(bare) < len(state_dict):
        raise UserError(f"some keys begin with {PARALLEL!r} and others do not, such as {', '.join(bare[:4])}")
    return {str(key).removeprefix(PARALLEL): value for key, value in state_dict.items()}


def split_qkv(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Splits fused projections `….attn.qkv.weight` [3 D, D] into `….attn.qkv.weight[query]` and so on; keeps indivisible ones."""
    result: dict[str, Any] = {}
    for key, value in state_dict.items():
        if ".attn.qkv." in str(key) and isinstance(value, np.ndarray) and value.ndim and len(value) % 3 == 0:
            result |= {f"{key}[{part}]": rows for part, rows in zip(PARTS, np.split(value, 3), strict=True)}
        else:
            result[str(key)] = value
    return result


def join_qkv(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `split_qkv`."""
    result: dict[str, np.ndarray] = {}
    for key, value in state_dict.items():
        whole, bracket, _ = key.partition("[")
        if not bracket:
            result[key] = value
        elif whole not in result:
            result[whole] = np.concatenate([state_dict[f"{whole}[{part}]"] for part in PARTS])
    return result


def sizes(state_dict: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """Fields of `ASTConfig` that the tensors show: widths, depth, patch size, classes. Raises `UserError` as `shape_of`."""
    width = shape_of(state_dict, layout.class_token, 3)[2]
    blocks = re.escape(layout.block).replace(re.escape("{i}"), r"(\d+)")
    found = [re.match(blocks, key) for key in state_dict]
    head = f"{layout.head}.weight"
    query = layout.block.format(i=0) + layout.qkv.format(part=PARTS[0], kind="bias")
    return {
        "hidden_size": width,
        "num_hidden_layers": len({match[1] for match in found if match}),
        "intermediate_size": shape_of(state_dict, f"{layout.block.format(i=0)}{layout.fc1}.weight", 2)[0],
        "patch_size": shape_of(state_dict, f"{layout.patch}.weight", 4)[3],
        "qkv_bias": query in state_dict,
        "predictor_class": shape_of(state_dict, head, 2)[0] if head in state_dict else 0,
    }
