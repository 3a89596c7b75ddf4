"""Which recordings a model knows, so that rows it was trained on are recognised whatever their files are called."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from beats_jax.errors import UserError

DIGITS = 16  # of a hash that are kept: 8 bytes, so that a million recordings take 8 MB and none is taken for another


@dataclass(frozen=True)
class Seen:
    """Contents of recordings, uint64, ascending; see `codes`.

    Attributes:
      trained: that weights were fitted to, in this run or in those that it started from.
      chosen: that weights, temperature or thresholds were chosen by.
    """

    trained: np.ndarray
    chosen: np.ndarray

    def __or__(self, other: Seen | None) -> Seen:
        if other is None:
            return self
        return Seen(*(np.union1d(getattr(self, field.name), getattr(other, field.name)) for field in fields(Seen)))

    def to_mapping(self) -> dict[str, str]:
        """For JSON: base64 of little-endian numbers."""
        return {field.name: base64.b64encode(_raw(getattr(self, field.name))).decode() for field in fields(Seen)}

    @property
    def sha256(self) -> str:
        """Of the numbers."""
        return hashlib.sha256(b"|".join(_raw(getattr(self, field.name)) for field in fields(Seen))).hexdigest()


def codes(hashes: Iterable[str]) -> np.ndarray:
    """uint64 [N]: the beginning of hexadecimal hashes; 0 where one is empty, because the file was not read."""
    return np.array([int(text[:DIGITS], 16) if text else 0 for text in hashes], np.uint64)


def seen_from_codes(trained: np.ndarray, chosen: np.ndarray) -> Seen:
    """From the codes of rows, any number of times each; 0 is none."""
    return Seen(*(np.setdiff1d(rows.reshape(-1), np.zeros(1, np.uint64)) for rows in (trained, chosen)))


def seen_from_mapping(mapping: Mapping[str, Any], sha256: object, where: str) -> Seen:
    """From what `to_mapping` gave. Raises `UserError` where it is damaged."""
    try:
        seen = Seen(*(np.frombuffer(base64.b64decode(mapping[field.name], validate=True), "<u8") for field in fields(Seen)))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} is damaged: its list of recordings cannot be read ({error})") from error
    if seen.sha256 != sha256:
        raise UserError(f"{where} is damaged: the sha256 of its list of recordings is another")
    return seen


def _raw(numbers: np.ndarray) -> bytes:
    return numbers.astype("<u8").tobytes()
