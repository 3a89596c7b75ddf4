"""beats_jax: audio foundation models for bioacoustics in JAX and Flax.

`import beats_jax` is light: names below are loaded on first use, so that a script which only needs one of them does not pay
for the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beats_jax.api.extractor import BEATsFeatureExtractor as BEATsFeatureExtractor
    from beats_jax.api.trainer import BEATsTrainer as BEATsTrainer
    from beats_jax.inference.model import Model as Model
    from beats_jax.inference.search.embeddings import open_embeddings as open_embeddings
    from beats_jax.pipelines.probing.saved import load as load
    from beats_jax.weights.download import ensure_checkpoint as ensure_checkpoint
    from beats_jax.weights.published import list_available_models as list_available_models

__version__ = "0.1.0"
__all__ = [
    "BEATsFeatureExtractor",
    "BEATsTrainer",
    "Model",
    "__version__",
    "ensure_checkpoint",
    "list_available_models",
    "load",
    "open_embeddings",
]

_PLACES = {
    "BEATsFeatureExtractor": "beats_jax.api.extractor",
    "BEATsTrainer": "beats_jax.api.trainer",
    "Model": "beats_jax.inference.model",
    "ensure_checkpoint": "beats_jax.weights.download",
    "list_available_models": "beats_jax.weights.published",
    "load": "beats_jax.pipelines.probing.saved",
    "open_embeddings": "beats_jax.inference.search.embeddings",
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'beats_jax' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PLACES[name]), name)
