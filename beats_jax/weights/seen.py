"""The recordings a model was trained on, by content, so that renamed files are recognised too."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from beats_jax.errors import UserError

DIGITS = 16  # kept of a hash: 8 bytes, so that a million recordings take 8 MB, without a collision to expect


@dataclass(frozen=True)
class Seen:
    """Codes of recordings (see `codes`), uint64, ascending."""

    trained: np.ndarray  # weights were fitted to these, in this run or in those it started from
    chosen: np.ndarray  # weights, temperature or thresholds were chosen by these

    def __or__(self, other: Seen | None) -> Seen:
        if other is None:
            return self
        return Seen(np.union1d(self.trained, other.trained), np.union1d(self.chosen, other.chosen))

    def to_mapping(self) -> dict[str, str]:
        """For JSON: base64 of little-endian numbers."""
        return {name: base64.b64encode(_to_bytes(rows)).decode() for name, rows in vars(self).items()}

    @property
    def sha256(self) -> str:
        """Hash of the codes, as hexadecimal text."""
        return hashlib.sha256(_to_bytes(self.trained) + b"|" + _to_bytes(self.chosen)).hexdigest()


def codes(hashes: Iterable[str]) -> np.ndarray:
    """The first digits of hexadecimal hashes as uint64 [N]; 0 for an empty hash, of a file that was not read."""
    return np.array([int(text[:DIGITS], 16) if text else 0 for text in hashes], np.uint64)


def seen_from_codes(trained: np.ndarray, chosen: np.ndarray) -> Seen:
    """Sorts the codes of rows and drops duplicates and zeros."""
    none = np.zeros(1, np.uint64)
    return Seen(np.setdiff1d(trained, none), np.setdiff1d(chosen, none))


def seen_from_mapping(mapping: Mapping[str, Any], sha256: object, where: str) -> Seen:
    """The inverse of `Seen.to_mapping`. Raises `UserError` if the mapping is damaged."""
    try:
        rows = (np.frombuffer(base64.b64decode(mapping[name], validate=True), "<u8") for name in ("trained", "chosen"))
        seen = Seen(*rows)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} is damaged: its list of recordings cannot be read ({error})") from error
    if seen.sha256 != sha256:
        raise UserError(f"{where} is damaged: the sha256 of its list of recordings differs")
    return seen


def _to_bytes(numbers: np.ndarray) -> bytes:
    return numbers.astype("<u8").tobytes()
