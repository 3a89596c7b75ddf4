"""What probes and episodes share: the rows of labelled data, and their embeddings by a model and its baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from beats_jax.config import AudioConfig, DataConfig
from beats_jax.config.validation import nearest
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import load_manifest
from beats_jax.errors import UserError
from beats_jax.inference.model import Model
from beats_jax.pipelines.measuring.seen_rows import with_hashes
from beats_jax.pipelines.probing.cache import Embeddings, embed_manifest
from beats_jax.pipelines.probing.encoders import Encoder, filterbank_encoder, model_encoder, randomise
from beats_jax.pipelines.probing.folds import known_to_the_run
from beats_jax.pipelines.probing.tokens import without_facts
from beats_jax.weights.pretrained import read_memory

MODEL, FBANK, RANDOM = "model", "fbank", "random"  # encoders in metrics.json and probe.json
BASELINES = (FBANK, RANDOM)  # on the same rows as the model, so that one page compares like with like


def require_known(what: str, name: str, known: Sequence[str]) -> None:
    """Raises `UserError` with the nearest known name."""
    if name not in known:
        raise UserError(f"{what} {name!r} is not known; {nearest(name, list(known))}")


def compared_encoders(
    model: Model | None,
    poolings: tuple[str, ...],
    layers: tuple[int, ...],
    baselines: tuple[str, ...],
    seed: int,
    features: bool = False,
) -> dict[str, Encoder]:
    """The model (None = the filterbank alone) and its baselines by name.

    Args:
      poolings: () = all that the model has. layers: only checked here. seed: of random weights.
      features: of a model its features alone, in place of every layer.
    Raises:
      UserError: an unknown pooling, layer or baseline, or one that the filterbank has not.
    """
    for name in baselines:
        require_known("baseline", name, BASELINES)
    if model is None:
        if poolings or layers or baselines:
            raise UserError("filterbank has one vector, mean and deviation of each mel band: no layers, poolings or baselines")
        return {MODEL: filterbank_encoder(AudioConfig())}
    for name in poolings:
        require_known("pooling", name, model.poolings)
    count = model.num_layers + 1
    for layer in layers:
        if not -count <= layer < count:
            raise UserError(f"layer is {layer}; this model has layers 0 to {count - 1}")
    poolings = poolings or model.poolings
    encoders: dict[str, Encoder] = {MODEL: model_encoder(model, poolings, features)}
    for name in baselines:
        random = name == RANDOM
        encoders[name] = model_encoder(randomise(model, seed), poolings, features) if random else filterbank_encoder(model.audio)
    return encoders


def read_rows(model: str, data: DataConfig, output: Path, *, unseen: bool, where: Path) -> Manifest:
    """The rows of the data; with `unseen` those that the model was not trained on.

    Args:
      output: folder for what a source writes. where: the data, for errors.
    Raises:
      UserError: with `unseen`, a run without a record of its rows, or no row left.
    """
    manifest = load_manifest(data, workdir=output)
    if not unseen:
        return manifest
    known = known_to_the_run(model, add_hashes(model, manifest))
    if known is None:
        raise UserError(f"--unseen cannot know what {model} was trained on: the run has no record of it")
    kept = manifest.take(~known)
    if not len(kept):
        raise UserError(f"--unseen leaves nothing: {model} has been trained on every row of {where}")
    print(f"{len(kept)} of {len(manifest)} rows are new to the run", flush=True)
    return kept


def add_hashes(model: str, manifest: Manifest) -> Manifest:
    """The rows with the hashes by which a model knows them, where it remembers any."""
    return manifest if read_memory(model) is None else with_hashes(manifest)


def embed_all(
    encoders: Mapping[str, Encoder],
    manifest: Manifest,
    data: DataConfig,
    errors: ErrorLog,
    cache: Path | None,
    layers: tuple[int, ...],
) -> dict[str, Embeddings]:
    """Embeddings of the same rows by every encoder, of the wanted layers (() = all)."""
    found: dict[str, Embeddings] = {}
    for name, encoder in encoders.items():
        embeddings = embed_manifest(encoder, manifest, data, errors, cache)
        how = f"in {embeddings.seconds:.1f} s, kept in" if embeddings.seconds else "read from"
        print(f"{name}: {len(embeddings.manifest)} embeddings {how} {embeddings.cached}", flush=True)
        manifest = without_facts(embeddings.manifest)  # the next encoder gets what this one could read
        if layers and len(encoder.layers) > 1:
            wanted = [layer % len(embeddings.layers) for layer in layers]
            names = tuple(embeddings.layers[layer] for layer in wanted)
            embeddings = replace(embeddings, values=embeddings.values[wanted], layers=names)
        found[name] = embeddings
    if len({len(embeddings.manifest) for embeddings in found.values()}) > 1:
        raise UserError("some recordings could be read at first and not later; give the command again with another --output")
    return found


def known_note(model: str, rows: Manifest) -> list[str]:
    """A sentence where a model was trained on some of the rows, or may have been."""
    known = known_to_the_run(model, rows)
    if known is None:
        return ["The run has no record of what it was trained on; if it was trained on these examples, the figures are too good."]
    if not known.any():
        return []
    return [
        f"{int(known.sum())} of {len(known)} examples are recordings that this run was trained on or chosen by: its figures are "
        "better than they would be on new ones. --unseen leaves them out."
    ]
