"""Writes a whole model as one program file: waveforms in, embedding and class scores out, without this package.

    8 bytes "BEATSJX1" | 32 bytes sha256 of all that follows | 8 bytes length of the facts, little-endian | facts, JSON padded
    with spaces to a multiple of 64 bytes from the start of the file | weights, float32 | program as `jax.export` serialises it

The program is StableHLO for cpu, cuda and tpu and any number of clips. The weights are its arguments, not constants, so that the
device holds them once for all batch sizes. `exported.load_exported` opens the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

import beats_jax
from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.files import whole_file
from beats_jax.inference.model import Model
from beats_jax.inference.program import forward
from beats_jax.models import registry
from beats_jax.models.cpu import Form
from beats_jax.models.heads import pool
from beats_jax.weights.bundle import Bundle

MAGIC = b"BEATSJX1"
PLATFORMS = ("cpu", "cuda", "tpu")
MOST_SECONDS = 600  # attention scores of longer clips fit into no memory
SECONDS = 10.0  # of the clips of a model that reads any length
ALIGNMENT = 64


def default_seconds(audio: AudioConfig) -> float:
    """Length of a program's clips: what fills the model's `target_frames`, ten seconds where it reads any length."""
    settings = audio.filterbank
    return settings.target_frames * settings.hop_samples / settings.sample_rate if settings.target_frames else SECONDS


def export_model(path: Path, bundle: Bundle, seconds: float | None = None) -> dict[str, Any]:
    """Writes the model as one file, whole or not at all; an existing file is replaced.

    Args:
      seconds: length of the clips that the program takes, padding included; None = `default_seconds`.
    Returns:
      the facts in it.
    Raises:
      UserError: flatbuffers is absent, the clips are too short for one token or too long, or the file cannot be written.
    """
    if find_spec("flatbuffers") is None:
        raise UserError("writing a program needs flatbuffers, which is not installed: pip install 'beats-jax[export]'")
    model = Model(bundle, form=Form.PORTABLE)
    seconds = default_seconds(bundle.audio) if seconds is None else seconds
    least = model.min_samples / bundle.audio.sample_rate
    if not least <= seconds <= MOST_SECONDS:
        raise UserError(f"clips of {seconds:g} s are too short or too long; from {least:.4g} to {MOST_SECONDS} s fit (--seconds)")
    samples = round(seconds * bundle.audio.sample_rate)
    program = program_of(model, samples)
    weights = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(model.params)]
    facts = {
        "format": 1,
        "beats_jax": beats_jax.__version__,
        "jax": jax.__version__,
        "calling_convention": program.calling_convention_version,
        "platforms": list(program.platforms),
        "family": bundle.model.family,
        "sample_rate": bundle.audio.sample_rate,
        "samples": samples,
        "seconds": samples / bundle.audio.sample_rate,
        "num_features": registry.family(bundle.model).num_features,
        "labels": list(bundle.labels),
        "probabilities": ("sigmoid" if bundle.multi_label else "softmax") if bundle.labels else "none",
        "source": bundle.source,
        "source_sha256": bundle.source_sha256,
        "licence": bundle.licence,
        "weights": [list(leaf.shape) for leaf in weights],
    }
    _write(path, facts, weights, program.serialize())
    return facts


def program_of(model: Model, samples: int) -> jax_export.Exported:
    """The model's program: (list of weights, waveforms float32 [b, samples], lengths int32 [b]) → dict of arrays.

    Its results are those of `embed`, `logits` and `predict` with `lengths`.
    """
    leaves, structure = jax.tree.flatten(model.params)
    special = registry.family(model.config).num_special

    def program(weights: Sequence[jax.Array], waveforms: jax.Array, lengths: jax.Array) -> dict[str, jax.Array]:
        inputs = {"waveforms": waveforms, "lengths": lengths}
        out = forward(model.architecture, jax.tree.unflatten(structure, weights), inputs)
        results = {"embedding": pool(out.features, out.token_mask, "mean", special)}
        if out.codes is not None:
            results["codes"] = out.codes
        if out.logits is not None:
            rule = jax.nn.sigmoid if model.multi_label else jax.nn.softmax
            results |= {"logits": out.logits, "probabilities": rule(out.logits)}
        return results

    (clips,) = jax_export.symbolic_shape("b")
    arguments = (
        [jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for leaf in leaves],
        jax.ShapeDtypeStruct((clips, samples), jnp.float32),
        jax.ShapeDtypeStruct((clips,), jnp.int32),
    )
    return jax_export.export(jax.jit(program), platforms=PLATFORMS)(*arguments)


def _write(path: Path, facts: dict[str, Any], weights: Sequence[np.ndarray], program: bytes | bytearray) -> None:
    text = json.dumps(facts, ensure_ascii=False).encode()
    before = len(MAGIC) + hashlib.sha256().digest_size + 8
    text += b" " * (-(before + len(text)) % ALIGNMENT)
    parts = [len(text).to_bytes(8, "little"), text, *(np.ascontiguousarray(leaf).data for leaf in weights), program]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    with whole_file(path) as file:
        file.writelines([MAGIC, digest.digest(), *parts])
