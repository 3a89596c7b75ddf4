"""What a model is, in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.audioset import readable_names
from beats_jax.weights.bundle import Bundle

LONGEST_LINE = 2000


def describe(bundle: Bundle) -> list[str]:
    """What a model is, a line each."""
    audio = bundle.audio.filterbank
    shapes = param_shapes(bundle.model)
    few = bundle.labels[:5]
    head = ", ".join(name if name == label else f"{name} ({label})" for name, label in zip(readable_names(few), few, strict=True))
    head += ", ..." if len(bundle.labels) > 5 else ""
    lines = [
        f"family       {bundle.model.family}",
        f"source       {bundle.source or 'not noted'}",
        f"licence      {bundle.licence or 'not noted'}",
        f"parameters   {sum(int(np.prod(shape)) for shape in shapes.values()):,} in {len(shapes)} tensors",
        f"labels       {len(bundle.labels)}: {head}" if bundle.labels else "labels       none: the model has no head",
        f"probability  {'sigmoid' if bundle.multi_label else 'softmax'}" if bundle.labels else "probability  none",
        f"front-end    {audio.sample_rate} Hz, {audio.num_mel_bins} mel bins, {audio.window} window, mean {audio.mean:g}, "
        f"std {audio.std:g}, {f'{audio.target_frames} frames' if audio.target_frames else 'any length'}",
        "settings     " + ", ".join(f"{name} {value}" for name, value in _architecture(bundle)),
    ]
    return [_printable(line) for line in lines]


def _printable(line: str) -> str:
    """Labels and sources are a stranger's texts: nothing in them may move the cursor of a terminal, or fill it."""
    return "".join(character if character.isprintable() else "?" for character in line[:LONGEST_LINE])


def _architecture(bundle: Bundle) -> Iterator[tuple[str, object]]:
    plain = type(bundle.model)()
    for name in vars(plain):
        if name not in ("family", "checkpoint") and getattr(bundle.model, name) != getattr(plain, name):
            yield name, getattr(bundle.model, name)
