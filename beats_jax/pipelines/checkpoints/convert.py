"""Converts checkpoints between layouts, exports them as programs, and writes recordings as TFDS data sets."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from beats_jax.config import Experiment
from beats_jax.datasets.sources import load_manifest, source_at
from beats_jax.datasets.tfds.writer import write_tfds
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError
from beats_jax.files import sha256_of, write_bytes, write_text
from beats_jax.inference.export import export_model
from beats_jax.inference.model import Model
from beats_jax.weights.bundle import Bundle, describe, save_bundle
from beats_jax.weights.exported import load_exported
from beats_jax.weights.formats import WRITERS
from beats_jax.weights.pretrained import read_checkpoint
from beats_jax.weights.torch_writer import write_torch_file

TORCH_SUFFIXES = (".pt", ".pth")
SAME_PROGRAM = 1e-3  # of the largest value; accelerators round factors and sum in another order. Measured on CPU: 0


def convert(source: str, output: Path, *, published_keys: bool = False, force: bool = False) -> list[str]:
    """Reads a checkpoint of any known kind, writes it in the layout that the name of `output` chooses, and returns a report.

    Args:
      source: as for `beats_jax.load`.
      output: `NAME.pt` or `NAME.pth` = the family's published layout; `NAME.safetensors` = our format (with NAME.json beside);
        any other name = a folder of our format.
      published_keys: a `.safetensors` output gets the published key names, with the family's JSON files beside it.
      force: replace an existing output.
    Raises:
      UserError: the checkpoint cannot be read, the place cannot be written or is taken, or the family has no published layout.
    """
    suffix = output.suffix.lower()
    if published_keys and suffix != ".safetensors":
        raise UserError(f"--published-keys is for a .safetensors output; {output} is written in its own layout anyway")
    _check_place(output, source, force)
    bundle = _read(source)
    if suffix in TORCH_SUFFIXES or published_keys:
        return [*describe(bundle), *_write_published(output, bundle, force)]
    save_bundle(output, bundle)
    return [*describe(bundle), f"wrote {output}: our format, for beats_jax.load"]


def export(source: str, output: Path, *, seconds: float | None = None, force: bool = False) -> list[str]:
    """Writes a model as one program file (`inference.export`), compares it with the model, and returns a report.

    Args:
      source, force: as for `convert`.
      seconds: length of the program's clips; None = the model's own, else ten.
    Raises:
      UserError: as `convert`; flatbuffers is absent; the clips are too short.
    """
    if output.is_dir():
        raise UserError(f"{output} is a folder; a program is one file")
    _check_place(output, source, force)
    bundle = _read(source)
    facts = export_model(output, bundle, seconds)
    difference = _difference_from_model(output, bundle)
    if not difference <= SAME_PROGRAM:
        output.unlink()
        raise RuntimeError(f"the program differs from the model by {difference:.1e} of the largest value; it was not kept")
    results = ["embedding", *(["logits", "probabilities"] if bundle.labels else [])]
    return [
        *describe(bundle),
        f"wrote {output}: {output.stat().st_size:,} bytes, a program for {', '.join(facts['platforms'])}",
        f"takes        waveforms float32 [b, {facts['samples']}] at {facts['sample_rate']} Hz ({facts['seconds']:g} s), "
        "lengths int32 [b] in samples",
        f"gives        {', '.join(results)}; open it with the function in {inspect.getsourcefile(load_exported)}",
        f"differs      from the model by {difference:.1e} of the largest value",
    ]


def _difference_from_model(output: Path, bundle: Bundle) -> float:
    """Largest difference in embeddings and logits of two clips, one half padded, relative to the largest value."""
    facts, run = load_exported(output)
    samples = facts["samples"]
    waveforms = (0.1 * np.random.default_rng(0).standard_normal((2, samples))).astype(np.float32)
    lengths = np.array([samples, samples // 2], np.int32)
    found, model = run(waveforms, lengths), Model(bundle)
    pairs = [(found["embedding"], model.embed(waveforms, lengths=lengths))]
    if bundle.labels:
        pairs.append((found["logits"], model.logits(waveforms, lengths=lengths)))
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def _check_place(output: Path, source: str, force: bool) -> None:
    if output.exists() and not force:
        raise UserError(f"{output} exists; choose another name, or --force to replace it")
    if output.exists() and Path(source).exists() and output.samefile(source):
        raise UserError(f"{output} is the input itself")
    if not output.absolute().parent.is_dir():
        raise UserError(f"the folder {output.absolute().parent} does not exist; make it first")


def _read(source: str) -> Bundle:
    bundle = read_checkpoint(source)
    if Path(source).is_file() and not bundle.source_sha256:
        return replace(bundle, source_sha256=sha256_of(source))
    return bundle


def _write_published(output: Path, bundle: Bundle, force: bool) -> list[str]:
    """`output` in the family's published layout, and the JSON files that belong beside it; each whole or not at all."""
    from safetensors.numpy import save

    writer = WRITERS.get(bundle.model.family)
    if writer is None:
        raise UserError(f"the family {bundle.model.family!r} has no published layout; known: {', '.join(sorted(WRITERS))}")
    if bundle.model.head != "own":
        raise UserError(f"the published layouts have no {bundle.model.head} head; keep the model as .safetensors or a folder")
    upstream = writer(bundle)
    torch = output.suffix.lower() in TORCH_SUFFIXES
    beside = {output.with_name(name): value for name, value in (upstream.beside_torch if torch else upstream.beside).items()}
    taken = [str(place) for place in beside if place.exists()]
    if taken and not force:
        raise UserError(f"{' and '.join(taken)} would be replaced; choose another folder, or --force to replace")
    for place, value in beside.items():
        write_text(place, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    if torch:
        write_torch_file(output, upstream.content)
    else:
        write_bytes(output, save(upstream.state_dict, metadata={"format": "pt"}))
    layout = "the published layout, for torch.load(weights_only=True)" if torch else "published keys"
    return [f"wrote {', '.join(map(str, [output, *beside]))}: {layout}"]


def write_dataset(source: Path, output: Path, experiment: Experiment) -> list[str]:
    """Writes the usable recordings of a table or folder as the TFDS data set `output`/1.0.0, and returns a report.

    Args:
      source: as for `sources.source_at`.
      experiment: its `data` and `audio` apply; source, root and table are set from `source`.
    Raises:
      UserError: no usable recording, or as `write_tfds`.
    """
    kind = source_at(source)
    place = {"metadata_file": str(source)} if source.is_file() else {"root": str(source)}
    data = replace(experiment.data, source=kind, **place)
    report = validate(load_manifest(data, workdir=output), data, experiment.audio, min_classes=1)
    folder = write_tfds(report.manifest, data, experiment.audio, output.parent, output.name)
    splits = [f"{split} {number}" for split, number in report.split_rows.items() if number]
    rows = ", ".join(splits) or f"train {len(report.manifest)}"
    return [report.summary(), f"wrote {folder} (records: {rows}); read it with tfds.builder_from_directory or data.source=tfds"]
