"""Opens a file of `convert --export`. Needs jax, flatbuffers and numpy only; users copy it (docs/export.md)."""

import hashlib
import json
from pathlib import Path

import jax.export
import numpy as np


def load_exported(path):
    """Facts (a dict) and run(waveforms, lengths): float32 [b, samples], int32 [b] → dict of arrays, one row a clip."""
    data = Path(path).read_bytes()
    if data[:8] != b"BEATSJX1":
        raise ValueError(f"{path} is not a model exported by beats_jax")
    if hashlib.sha256(data[40:]).digest() != data[8:40]:
        raise ValueError(f"{path} is truncated or altered (its sha256 differs); copy or export it again")
    start = 48 + int.from_bytes(data[40:48], "little")
    facts, weights = json.loads(data[48:start]), []
    for shape in facts["weights"]:
        weights.append(np.frombuffer(data, np.float32, int(np.prod(shape)), start).reshape(shape))
        start += weights[-1].nbytes
    weights, program = jax.device_put(weights), jax.export.deserialize(bytearray(data[start:]))
    run = jax.jit(program.call)
    return facts, lambda waveforms, lengths: run(weights, waveforms, lengths)
