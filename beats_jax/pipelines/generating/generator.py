"""A trained generator: it draws images of its classes, and is kept in a folder.

GENERATOR/generator.json          settings, classes, findings
GENERATOR/generator.safetensors   weights and scaling
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from beats_jax.config import Experiment, experiment_from_mapping, to_mapping
from beats_jax.config.validation import nearest
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.errors import UserError
from beats_jax.files import whole_folder, write_bytes, write_text
from beats_jax.json_files import read_json
from beats_jax.objectives.images import ImageObjective
from beats_jax.objectives.registry import build
from beats_jax.pipelines.generating.scaling import Scaling

FACTS_FILE, WEIGHTS_FILE = "generator.json", "generator.safetensors"
SHAPE = {"format": int, "experiment": dict, "classes": [str], "problems": [str]}
FORMAT = 1
DRAWN_AT_ONCE = 128


@dataclass(frozen=True)
class Generator:
    """A generator of images [bands, frames] in the units of the images it was trained on.

    Attributes:
      experiment: its settings; `objective` is the generator's own, `objective.image` how sound became images, if it did.
      classes: names, in the order of the numbers.
      weights: the averaged weights, and what `ImageObjective.finish` added.
      problems: sentences on what went wrong in training: codes that collapsed, images that are all alike. Empty = nothing seen.
    """

    experiment: Experiment
    classes: tuple[str, ...]
    weights: Any
    scaling: Scaling
    problems: tuple[str, ...] = field(default=())

    @property
    def kind(self) -> str:
        """ae, vae, aae, gan or diffusion."""
        return getattr(self.experiment.objective, "kind", self.experiment.objective.name)

    @property
    def size(self) -> tuple[int, int]:
        """Bands and frames of an image."""
        return self.objective.size

    def sample(self, labels: Sequence[str] | Sequence[int] | np.ndarray, seed: int) -> np.ndarray:
        """Draws one image for each label; the same seed and labels give the same images.

        Args:
          labels: [N], names of classes or their numbers.
        Returns:
          float32 [N, bands, frames].
        Raises:
          UserError: a class that the generator does not know.
        """
        numbers = self.numbers_of(labels)
        key = jax.random.key(seed)
        return self.scaling.from_network(
            _in_parts(lambda i, part: self._draw(self.weights, jax.random.fold_in(key, i), part), numbers, *self.size)
        )

    def encode(self, images: np.ndarray, labels: Sequence[str] | Sequence[int] | np.ndarray) -> np.ndarray:
        """Codes of images [N, bands, frames] of these classes, float32 [N, Z]; the means of their distributions.

        Raises:
          UserError: a generator without an encoder (GAN, diffusion).
        """
        self._require("encode", "codes of images")
        scaled, numbers = self.scaling.to_network(images), self.numbers_of(labels)
        width = self.experiment.objective.latent  # type: ignore[attr-defined]
        places = np.arange(len(scaled))

        def run(_: int, rows: np.ndarray) -> jax.Array:
            return self._encode(self.weights, {"images": scaled[rows], "labels": numbers[rows]}).mean

        return _in_parts(run, places, width)

    def decode(self, codes: np.ndarray, labels: Sequence[str] | Sequence[int] | np.ndarray) -> np.ndarray:
        """The images of codes [N, Z], float32 [N, bands, frames]: mean images, without texture.

        Raises:
          UserError: a generator without codes (diffusion).
        """
        self._require("decode", "images of codes")
        numbers, places = self.numbers_of(labels), np.arange(len(codes))

        def run(_: int, rows: np.ndarray) -> jax.Array:
            return self._decode(self.weights, jnp.asarray(codes[rows], jnp.float32), numbers[rows])

        return self.scaling.from_network(_in_parts(run, places, *self.size))

    def numbers_of(self, labels: Sequence[str] | Sequence[int] | np.ndarray) -> np.ndarray:
        """The classes' numbers, int32 [N]. Raises `UserError` for an unknown class."""
        known = {name: number for number, name in enumerate(self.classes)}
        found = np.asarray(labels)
        if found.dtype.kind in "US":
            unknown = next((name for name in found.tolist() if name not in known), None)
            if unknown is not None:
                raise UserError(f"the generator knows no class {unknown!r}; {nearest(unknown, list(self.classes))}")
            return np.array([known[name] for name in found.tolist()], np.int32)
        if len(found) and not 0 <= found.min() <= found.max() < len(self.classes):
            raise UserError(f"the generator's {len(self.classes)} classes are numbered from 0; {found.max()} is none of them")
        return found.astype(np.int32)

    def save(self, folder: str | Path) -> Path:
        """Writes the generator as a folder, whole or not at all; an older one is replaced."""
        from safetensors.numpy import save

        arrays = {"scaling/mean": self.scaling.mean, "scaling/deviation": self.scaling.deviation}
        arrays |= {f"weights/{name}": np.ascontiguousarray(leaf) for name, leaf in flatten_dict(self.weights, sep="/").items()}
        facts = {
            "format": FORMAT,
            "experiment": to_mapping(self.experiment),
            "classes": list(self.classes),
            "problems": list(self.problems),
        }
        with whole_folder(folder, replace=True) as place:
            write_bytes(place / WEIGHTS_FILE, save(arrays))
            write_text(place / FACTS_FILE, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        return Path(folder)

    def __repr__(self) -> str:
        return f"Generator({self.kind}, {self.size[0]} x {self.size[1]}, classes {', '.join(self.classes)})"

    @cached_property
    def objective(self) -> ImageObjective:
        """The objective it was trained by, for drawing only."""
        return objective_of(self.experiment, self.classes)

    @cached_property
    def _draw(self) -> Callable[..., jax.Array]:
        return jax.jit(self.objective.draw)

    @cached_property
    def _encode(self) -> Callable[..., Any]:
        return jax.jit(self.objective.encode)  # type: ignore[attr-defined]

    @cached_property
    def _decode(self) -> Callable[..., jax.Array]:
        return jax.jit(self.objective.decode)  # type: ignore[attr-defined]

    def _require(self, method: str, what: str) -> None:
        if not hasattr(self.objective, method):
            raise UserError(f"a generator of the kind {self.kind} has no {what}")


def objective_of(
    experiment: Experiment, classes: Sequence[str], optimizer: optax.GradientTransformation | None = None
) -> ImageObjective:
    """The objective of a generator's settings; without an optimizer, for drawing only."""
    return build(experiment, LabelVocabulary(tuple(classes)), optimizer or optax.identity(), None)


def load_generator(folder: str | Path) -> Generator:
    """A generator that `Generator.save` wrote, or that of a run of `train`.

    Raises:
      UserError: there is none, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    place = Path(folder)
    place = place / "generator" if (place / "generator").is_dir() else place
    if not (place / FACTS_FILE).is_file():
        raise UserError(f"{folder} holds no generator ({FACTS_FILE} is missing); train one with --config generative:vae")
    facts = read_json(place / FACTS_FILE, SHAPE, remedy="train the generator anew")
    try:
        arrays = load((place / WEIGHTS_FILE).read_bytes())
        scaling = Scaling(arrays.pop("scaling/mean"), arrays.pop("scaling/deviation"))
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{place / WEIGHTS_FILE} cannot be read ({error}); train the generator anew") from error
    weights = unflatten_dict({name.removeprefix("weights/"): array for name, array in arrays.items()}, sep="/")
    experiment = experiment_from_mapping(facts["experiment"])
    return Generator(experiment, tuple(facts["classes"]), weights, scaling, tuple(facts["problems"]))


def _in_parts(run: Callable[[int, np.ndarray], Any], rows: np.ndarray, *shape: int) -> np.ndarray:
    """`run` of (number of the part, `DRAWN_AT_ONCE` rows) for all rows, the last part filled up: one compiled program."""
    found = np.empty((len(rows), *shape), np.float32)
    for part, start in enumerate(range(0, len(rows), DRAWN_AT_ONCE)):
        own = rows[start : start + DRAWN_AT_ONCE]
        filled = np.concatenate([own, np.repeat(own[-1:], DRAWN_AT_ONCE - len(own))])
        found[start : start + len(own)] = np.asarray(run(part, filled))[: len(own)]
    return found
