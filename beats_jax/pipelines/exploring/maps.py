"""Maps of a collection: computed once, kept on disk by the vectors and the settings that they come from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from beats_jax.config.rules import require_one_of
from beats_jax.evaluation.embeddings.maps import require_umap, tsne_places, umap_places
from beats_jax.files import whole_file
from beats_jax.pipelines.exploring.collection import Collection

METHODS = ("pca", "tsne", "umap")
LIBRARIES = {"pca": "scikit-learn", "tsne": "scikit-learn", "umap": "umap-learn"}


@dataclass(frozen=True)
class MapSettings:
    """How places are computed; settings of other methods have no effect and are left out of the key.

    Raises:
      UserError: an unknown method.
    """

    method: str = "pca"
    dimensions: int = 2
    perplexity: float = 30.0
    n_neighbors: int = 15
    min_dist: float = 0.1

    def __post_init__(self) -> None:
        require_one_of("method", self.method, METHODS)

    def key(self) -> dict[str, object]:
        """What the places depend on besides the vectors and the seed."""
        of = {"pca": ("perplexity", "n_neighbors", "min_dist"), "tsne": ("n_neighbors", "min_dist"), "umap": ("perplexity",)}
        return {name: value for name, value in asdict(self).items() if name not in of[self.method]}


def map_path(collection: Collection, settings: MapSettings) -> Path:
    """The file of a map's places."""
    library = LIBRARIES[settings.method]
    parts = {**settings.key(), "seed": collection.settings.seed, "vectors": collection.identity, library: version(library)}
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return collection.output / "maps" / f"{settings.method}-{settings.dimensions}d-{name}.npy"


def places_of(collection: Collection, settings: MapSettings) -> np.ndarray:
    """Places of all windows, float32 [N, 2 or 3]: from disk where they were computed before.

    Raises:
      UserError: UMAP is not installed, a value out of range, or the folder cannot be written.
    """
    if settings.method == "pca":  # the components are there already
        return collection.reduced[:, : settings.dimensions]
    if settings.method == "umap":
        require_umap()
    path = map_path(collection, settings)
    if (kept := _read(path, len(collection), settings.dimensions)) is not None:
        return kept
    seed, reduced = collection.settings.seed, collection.reduced
    if settings.method == "tsne":
        places = tsne_places(reduced, settings.dimensions, settings.perplexity, seed)
    else:
        places = umap_places(reduced, settings.dimensions, settings.n_neighbors, settings.min_dist, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.save(file, places)
    return places


def _read(path: Path, rows: int, dimensions: int) -> np.ndarray | None:
    """Kept places; None where there are none, or the file is damaged: then they are computed again."""
    try:
        places = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return places if places.shape == (rows, dimensions) and np.isfinite(places).all() else None
