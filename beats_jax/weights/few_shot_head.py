"""How a model compares queries with a few examples, beside its tensors: few_shot.json, and few_shot.safetensors where that has
parameters (matching, relation)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from beats_jax.errors import UserError
from beats_jax.files import whole_file, write_text
from beats_jax.json_files import read_json

FACTS_FILE, TENSORS_FILE = "few_shot.json", "few_shot.safetensors"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class SavedHead:
    """What an encoder was trained with.

    Attributes:
      method: of `models.fewshot.heads.FewShotHead`. pooling: of its tokens; relation reads the map of all tokens.
      window_seconds: length of the sound that it read in training.
      params: nested float32 arrays, batch statistics among them; None without parameters.
    """

    method: str
    pooling: str
    window_seconds: float
    params: Any = None


def save_head(folder: Path, head: SavedHead) -> None:
    """Writes the files into the folder of a model, each whole or not at all; the description last."""
    from safetensors.numpy import save

    facts = {
        "format": FORMAT,
        "method": head.method,
        "pooling": head.pooling,
        "window_seconds": head.window_seconds,
        "sha256": "",
    }
    if head.params is not None:
        flat = {path: np.ascontiguousarray(leaf) for path, leaf in flatten_dict(head.params, sep="/").items()}
        tensors = save(flat)
        with whole_file(folder / TENSORS_FILE) as file:
            file.write(tensors)
        facts["sha256"] = hashlib.sha256(tensors).hexdigest()
    write_text(folder / FACTS_FILE, json.dumps(facts, indent=2) + "\n")


def load_head(folder: Path) -> SavedHead | None:
    """The head in the folder of a model, or in `model` of a run; None where there is none.

    Raises:
      UserError: a file is missing, damaged or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    place = next((at for at in (folder, folder / "model") if (at / FACTS_FILE).is_file()), None)
    if place is None:
        return None
    kinds = {"format": int, "method": str, "pooling": str, "window_seconds": float, "sha256": str}
    facts = read_json(place / FACTS_FILE, kinds, remedy="train the run again, or restore it from a copy")
    if facts["format"] != FORMAT:
        raise UserError(f"{place / FACTS_FILE} has format {facts['format']}; this version of beats_jax reads format {FORMAT}")
    params = None
    if facts["sha256"]:
        file = place / TENSORS_FILE
        if not file.is_file():
            raise UserError(f"{file} is missing; restore it from a copy")
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise UserError(f"{file} is damaged, or {FACTS_FILE} belongs to another one: the sha256 in it differs")
        try:
            params = unflatten_dict(load(data), sep="/")
        except SafetensorError as error:
            raise UserError(f"{file} is damaged: {error}") from error
    return SavedHead(facts["method"], facts["pooling"], facts["window_seconds"], params)
