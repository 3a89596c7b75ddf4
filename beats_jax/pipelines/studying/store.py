"""The results of a study on the disk: one file for each size, arm, ratio and seed, whole or absent; a study resumes at it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beats_jax.errors import UserError
from beats_jax.files import whole_file

ALL = 0  # the size that stands for all real examples


class Fit(NamedTuple):
    """One training: `size` real examples of a class (`ALL` = all), an arm, synthetic examples for each real one (0 = none)."""

    size: int
    arm: str
    ratio: float
    seed: int

    @property
    def name(self) -> str:
        """`size-100/vae-4/seed-0`."""
        arm = f"{self.arm}-{self.ratio:g}" if self.ratio else self.arm
        return f"size-{self.size or 'all'}/{arm}/seed-{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """Of one fit.

    Attributes:
      val, test: probabilities float32 [rows, C]; None where it failed. seconds: of the fit. kept: share of the synthetic examples
      that a gate let through; NaN without one. failure: why it failed; "" where it did not. notes: what else went wrong.
    """

    val: np.ndarray | None
    test: np.ndarray | None
    seconds: float
    kept: float = float("nan")
    failure: str = ""
    notes: tuple[str, ...] = ()


class Store:
    """Outcomes below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, fit: Fit) -> Path:
        """Where the outcome stands."""
        return self.folder / f"{fit.name}.npz"

    def has(self, fit: Fit) -> bool:
        """Whether it was written."""
        return self.path(fit).is_file()

    def write(self, fit: Fit, outcome: Outcome) -> None:
        """Writes an outcome. Raises `UserError` where that fails."""
        path = self.path(fit)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {name: x for name, x in (("val", outcome.val), ("test", outcome.test)) if x is not None}
        with whole_file(path) as file:
            notes = np.array(outcome.notes, dtype=str)
            np.savez(file, **arrays, seconds=outcome.seconds, kept=outcome.kept, failure=np.array(outcome.failure), notes=notes)

    def read(self, fit: Fit) -> Outcome:
        """Reads an outcome. Raises `UserError` for a damaged file."""
        path = self.path(fit)
        try:
            with np.load(path, allow_pickle=False) as found:
                arrays = {name: found[name] if name in found.files else None for name in ("val", "test")}
                notes = tuple(found["notes"].tolist()) if "notes" in found.files else ()  # an older study has none
                seconds, kept, failure = float(found["seconds"]), float(found["kept"]), str(found["failure"])
                return Outcome(**arrays, seconds=seconds, kept=kept, failure=failure, notes=notes)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError(f"{path} is damaged ({error}); delete it, and the study fits it anew") from error

    def write_samples(self, fit: Fit, images: np.ndarray, labels: np.ndarray) -> None:
        """Keeps pictures float32 [n, frames, bands] of a fit's synthetic examples, and their classes, for the page."""
        path = self._samples(fit.size, fit.arm)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            np.savez(file, images=images.astype(np.float16), labels=labels.astype(np.int32))

    def samples(self, size: int, arm: str) -> tuple[np.ndarray, np.ndarray] | None:
        """What `write_samples` kept of an arm at a size; None where there is nothing."""
        path = self._samples(size, arm)
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as found:
            return found["images"].astype(np.float32), found["labels"].astype(np.int64)

    def _samples(self, size: int, arm: str) -> Path:
        return self.folder / f"samples/size-{size or 'all'}-{arm}.npz"

    def fits(self) -> list[Fit]:
        """All outcomes that are there, in order."""
        found = []
        for path in self.folder.glob("size-*/*/seed-*.npz"):
            arm, _, ratio = path.parent.name.partition("-")
            size = path.parent.parent.name.removeprefix("size-")
            seed = re.fullmatch(r"seed-(\d+)", path.stem)
            if seed is not None:
                found.append(Fit(ALL if size == "all" else int(size), arm, float(ratio or 0), int(seed[1])))
        return sorted(found)
