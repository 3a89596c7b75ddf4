"""Weights of matching and relation networks: darksound's and easyfsl's keys to our variables and back, strict both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from beats_jax.weights.architecture import Params
from beats_jax.weights.families.key_map import (
    MISFIT,
    SAME,
    TRANSPOSED,
    KeyTable,
    convert_tensors,
    linear,
    require_known,
    shape_of,
)
from beats_jax.weights.families.resnet import CONV, COUNT

ENCODER, CELL = "support_embeddings_encoder", "query_embeddings_encoding_cell"  # darksound's names
EASYFSL = {"support_features_encoder": ENCODER, "query_features_encoding_cell": CELL}
BACKBONE = "backbone."  # of the encoder's keys in a whole checkpoint


def matching_table() -> KeyTable:
    """Published key → (path below `params` of `FullContextEmbeddings`, rule)."""
    ours = {"weight_ih": ("kernel", TRANSPOSED), "weight_hh": ("recurrent", TRANSPOSED)}
    ours |= {"bias_ih": ("bias", SAME), "bias_hh": ("recurrent_bias", SAME)}
    places = {f"{ENCODER}.{{}}_l0": "forward", f"{ENCODER}.{{}}_l0_reverse": "backward", f"{CELL}.{{}}": "read_out"}
    return {
        theirs.format(key): (f"{module}/{name}", rule) for theirs, module in places.items() for key, (name, rule) in ours.items()
    }


def relation_table() -> KeyTable:
    """Published key → (path of the variables of `RelationModule`, which begins with the collection, rule)."""
    table: dict[str, tuple[str, Any]] = {
        "relation_module.0.0.weight": ("params/conv1_kernel", CONV),
        "relation_module.0.0.bias": ("params/conv1_bias", SAME),
        "relation_module.1.0.weight": ("params/conv2/kernel", CONV),
        "relation_module.1.0.bias": ("params/conv2/bias", SAME),
    }
    for place, name in (("0.1", "bn1"), ("1.1", "bn2")):
        key = f"relation_module.{place}"
        table[f"{key}.weight"] = (f"params/{name}/scale", SAME)
        table[f"{key}.bias"] = (f"params/{name}/bias", SAME)
        table[f"{key}.running_mean"] = (f"batch_stats/{name}/mean", SAME)
        table[f"{key}.running_var"] = (f"batch_stats/{name}/var", SAME)
        table[f"{key}.num_batches_tracked"] = (f"batch_stats/{name}/count", COUNT)
    linear(table, "relation_module.3", "params/hidden")
    linear(table, "relation_module.5", "params/score")
    return table


def matching_from_torch(state_dict: Mapping[str, Any]) -> tuple[int, Params]:
    """The width and the `params` of `FullContextEmbeddings` from a state dict of numpy arrays; the backbone's keys are left out.

    Raises:
      UserError: missing or unknown keys, or tensors that do not fit each other.
    """
    own = {_darksound(key): value for key, value in _without_backbone(state_dict).items()}
    width = shape_of(own, f"{CELL}.weight_hh", 2)[1]
    sizes = {"kernel": (width, 4 * width), "recurrent": (width, 4 * width), "bias": (4 * width,), "recurrent_bias": (4 * width,)}
    shapes = {f"{module}/{name}": size for module in ("forward", "backward", "read_out") for name, size in sizes.items()}
    shapes["read_out/kernel"] = (2 * width, 4 * width)
    return width, convert_tensors(own, matching_table(), shapes)


def relation_from_torch(state_dict: Mapping[str, Any]) -> tuple[int, Params]:
    """The channels and the variables {"params", "batch_stats"} of `RelationModule`; as `matching_from_torch`."""
    own = _without_backbone(state_dict)
    channels = shape_of(own, "relation_module.1.0.weight", 4)[0]
    hidden = shape_of(own, "relation_module.3.weight", 2)[0]
    shapes: dict[str, tuple[int, ...]] = {
        "params/conv1_kernel": (3, 3, 2 * channels, channels),
        "params/conv2/kernel": (3, 3, channels, channels),
        **{f"params/{name}": (channels,) for name in ("conv1_bias", "conv2/bias")},
        **{f"params/{bn}/{name}": (channels,) for bn in ("bn1", "bn2") for name in ("scale", "bias")},
        **{f"batch_stats/{bn}/{name}": (channels,) for bn in ("bn1", "bn2") for name in ("mean", "var")},
        **{f"batch_stats/{bn}/count": () for bn in ("bn1", "bn2")},
        **{"params/hidden/kernel": (channels, hidden), "params/hidden/bias": (hidden,)},
        **{"params/score/kernel": (hidden, 1), "params/score/bias": (1,)},
    }
    return channels, convert_tensors(own, relation_table(), shapes)


def to_torch(variables: Mapping[str, Any], table: KeyTable) -> dict[str, np.ndarray]:
    """The published state dict (darksound's names, contiguous) of variables and their table."""
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(variables, sep="/").items()}
    require_known([f"{MISFIT}: {path}" for path in sorted({path for path, _ in table.values()} - set(flat))])
    return {key: np.asarray(rule.to_torch(flat[path]), order="C") for key, (path, rule) in table.items()}


def _without_backbone(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in state_dict.items() if not str(key).startswith(BACKBONE)}


def _darksound(key: str) -> str:
    module, _, rest = key.partition(".")
    return f"{EASYFSL.get(module, module)}.{rest}"
