"""`detect --examples`: fits a detector once, keeps it in the output, and takes it from there where the call is the same.

OUTPUT/examples.safetensors    what the detector was fitted from, and its arrays: later calls add recordings to the same scores
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beats_jax.config.rules import require
from beats_jax.errors import UserError
from beats_jax.files import sha256_of
from beats_jax.inference.model import load
from beats_jax.inference.sources import FILTERBANK
from beats_jax.inference.store import JOB_FILE
from beats_jax.json_files import parse_json
from beats_jax.parallel.exchange import call_on_main
from beats_jax.pipelines.detecting.detector import Detector
from beats_jax.pipelines.detecting.examples import Example, find_clips, find_examples, whole_clip
from beats_jax.pipelines.detecting.few_embeddings import embedding_detector, fit_directions
from beats_jax.pipelines.detecting.few_examples import FewExamples, fit_templates, template_detector
from beats_jax.pipelines.detecting.scores import SCORES
from beats_jax.pipelines.window_plan import find_recordings
from beats_jax.weights.hashed import read_arrays, write_arrays

KEPT = "examples.safetensors"


@dataclass(frozen=True)
class ExampleSettings:
    """What the detector is made of.

    Attributes:
      examples, negatives: as in `examples.find_examples`; negatives None = none. model: filterbank, or as in `load`.
      per_hour: background windows that may reach a score of 0.5.

    Raises:
      UserError: a rate that is not positive.
    """

    examples: Path
    negatives: Path | None = None
    model: str = FILTERBANK
    window: float | None = None
    hop: float | None = None
    per_hour: float = 20.0
    dtype: str = "auto"

    def __post_init__(self) -> None:
        require(0 < self.per_hour < float("inf"), f"--false-alarms is {self.per_hour}; give a number an hour above 0")
        for name in ("window", "hop"):
            value = getattr(self, name)
            require(value is None or 0 < value < float("inf"), f"--{name} is {value} s; it must be positive")


def open_examples(settings: ExampleSettings, inputs: Sequence[str], output: Path) -> Detector:
    """The detector of these examples: the one that OUTPUT holds, else a new one, which is kept there.

    Its background is that of the recordings at the first call.

    Raises:
      UserError: no examples or recordings, or ones that cannot be read; OUTPUT holds the scores of others.
    """
    examples = find_examples(settings.examples, inputs)
    negatives = [] if settings.negatives is None else [whole_clip(clip) for clip in find_clips(settings.negatives)]
    request = _request(settings, examples, negatives)
    path = output / KEPT
    model = None if settings.model == FILTERBANK else load(settings.model, dtype=settings.dtype)
    fitted = _kept(path, request) if path.exists() else None
    if fitted is None:
        if (output / SCORES / JOB_FILE).exists():
            raise UserError(f"{output} holds the scores of another detector; choose another --output")
        print(f"fitting {len(examples)} examples of {len({one.label for one in examples})} classes ...", flush=True)
        recordings = find_recordings(inputs)[0]
        options: dict[str, Any] = {"per_hour": settings.per_hour, "window": settings.window, "hop": settings.hop}
        if model is None:
            fitted = fit_templates(examples, recordings, negatives=negatives, **options)
        else:
            fitted = fit_directions(model, examples, recordings, negatives=negatives, **options)
        call_on_main(lambda: _keep(path, request, fitted))
    found = template_detector(fitted) if model is None else embedding_detector(fitted, model)
    lengths = ", ".join(f"{label} {seconds:.3g} s" for label, seconds in found.seconds.items())
    print(f"windows of {found.grid.window_seconds:.3g} s every {found.grid.hop_seconds:.3g} s; length of events: {lengths}")
    print("\n".join(fitted.facts["lines"]), flush=True)
    return found


def _request(settings: ExampleSettings, examples: Sequence[Example], negatives: Sequence[Example]) -> dict[str, Any]:
    """All that the fit depends on besides the recordings, fit for JSON."""
    hashes = {file: sha256_of(file) for file in {example.file for example in (*examples, *negatives)}}
    chosen = {"model": settings.model, "window": settings.window, "hop": settings.hop, "per_hour": settings.per_hour}
    rows = [[one.label, hashes[one.file], one.start, one.end] for one in examples]
    return {**chosen, "examples": rows, "negatives": [hashes[one.file] for one in negatives]}


def _kept(path: Path, request: dict[str, Any]) -> FewExamples:
    arrays, texts = read_arrays(path)
    shape = {"request": dict, "facts": {"grid": dict, "seconds": dict, "lines": [str]}}
    found = parse_json(texts.get("kept", ""), shape, str(path), remedy="choose another --output")
    different = [name for name, value in request.items() if found["request"].get(name) != value]
    if different:
        raise UserError(f"{path.parent} holds the scores of other {', '.join(different)}; choose another --output")
    print(f"the detector is that of {path}", flush=True)
    return FewExamples(arrays, found["facts"])


def _keep(path: Path, request: dict[str, Any], fitted: FewExamples) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, fitted.arrays, {"kept": json.dumps({"request": request, "facts": fitted.facts})})
