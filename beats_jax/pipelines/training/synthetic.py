"""`objective.augment.synthetic` "auto": the synthetic spectrograms of a study, where its gate opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.audio.filterbank import num_frames
from beats_jax.config import Experiment, to_mapping
from beats_jax.datasets.manifest import text_column
from beats_jax.errors import UserError
from beats_jax.files import sha256_of
from beats_jax.json_files import read_json
from beats_jax.objectives.inputs import Synthetic
from beats_jax.parallel.exchange import call_on_main
from beats_jax.pipelines.training.preparation import PreparedData
from beats_jax.pipelines.training.workdir import write_json

GATE_FILE, DECISION_FILE = "gate.json", "synthetic.json"
REMEDY = "finish the study by giving its command again"
SHAPE = {
    "classes": [str],
    "background": (str, None),
    "filterbank": dict,
    "sources": [str],
    "decisions": [{"examples": int, "use": bool}],
}
CHOSEN = {"arm": str, "ratio": float, "file": str}


def synthetic_of(experiment: Experiment, data: PreparedData, workdir: Path) -> tuple[Synthetic | None, str]:
    """What is added to training rows, and a sentence that says why or why not.

    The decision is that of the nearest number of real examples that the study tried, from the run's own number on: a gain with
    few examples need not hold with more. It is kept in WORKDIR/synthetic.json, and a resumed run refuses another one.

    Raises:
      UserError: no finished study, other classes or another front-end than the study's, recordings that the synthetic examples
        were made of among those that the run measures, or another decision than the resumed run's.
    """
    config = experiment.objective.augment
    if config.synthetic == "none":
        return None, ""
    if experiment.objective.name != "supervised":
        raise UserError(f"objective.augment.synthetic is for the objective supervised, not for {experiment.objective.name}")
    study = Path(config.study).expanduser()
    gate = read_json(study / GATE_FILE, SHAPE, remedy=REMEDY)
    _require_same_classes(gate, data, study)
    counts = data.manifest.split("train").labels.counts()
    number = max(count for name, count in counts.items() if name != gate["background"])
    decision = _decision(gate["decisions"], number)
    _record(workdir, {**decision, "gate": sha256_of(study / GATE_FILE)})
    if not decision["use"]:
        return None, (
            f"no synthetic examples: {study} found no gain with {decision['examples']} real examples of a class "
            f"(this run has {number})"
        )
    found = _load(study, decision, gate, experiment, data, counts)
    return found, (
        f"synthetic examples: {decision['arm']}, {decision['ratio']:g} for each real one, {100 * found.share:.0f} % of a batch, "
        f"because {study} found a gain with {decision['examples']} real examples of a class (this run has {number})"
    )


def _decision(decisions: list[dict[str, Any]], number: int) -> dict[str, Any]:
    ordered = sorted(decisions, key=lambda one: one["examples"])
    return next((one for one in ordered if one["examples"] >= number), ordered[-1])


def _require_same_classes(gate: dict[str, Any], data: PreparedData, study: Path) -> None:
    if tuple(gate["classes"]) != data.vocabulary.names:
        names = ", ".join(data.vocabulary.names)
        raise UserError(
            f"{study} is of the classes {', '.join(gate['classes'])}, and this run of {names}; study these recordings"
        )


def _record(workdir: Path, decision: dict[str, Any]) -> None:
    path = workdir / DECISION_FILE
    if not call_on_main(path.is_file):
        call_on_main(lambda: write_json(path, decision))
    elif call_on_main(lambda: read_json(path)) != decision:
        raise UserError(f"the study's gate has changed since this run began ({path}); begin a new run in another --workdir")


def _load(
    study: Path,
    decision: dict[str, Any],
    gate: dict[str, Any],
    experiment: Experiment,
    data: PreparedData,
    counts: dict[str, int],
) -> Synthetic:
    """The study's examples with the share that its ratio means in this run."""
    path = study / str(decision.get("file", ""))
    missing = [name for name in CHOSEN if name not in decision]
    if missing or not path.is_file():
        raise UserError(f"{study / GATE_FILE} names no synthetic examples that are there; {REMEDY}")
    _require_front_end(gate, experiment, study)
    _require_unmeasured(gate, data, study)
    try:
        with np.load(path, allow_pickle=False) as stored:
            images, labels = stored["images"].astype(np.float32), stored["labels"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}); {REMEDY}") from error
    frames = num_frames(round(experiment.data.window_seconds * experiment.audio.sample_rate), experiment.audio.filterbank)
    if images.shape[1:] != (frames, experiment.audio.filterbank.num_mel_bins) or not len(images):
        raise UserError(
            f"{path} holds spectrograms of {images.shape[1]} frames, and this run reads {frames}; set data.window_seconds to "
            f"{gate.get('seconds')}"
        )
    added = sum(decision["ratio"] * count for name, count in counts.items() if name != gate["background"])
    return Synthetic(images, np.eye(len(data.vocabulary), dtype=np.float32)[labels], added / (added + sum(counts.values())))


def _require_front_end(gate: dict[str, Any], experiment: Experiment, study: Path) -> None:
    own = to_mapping(experiment.audio.filterbank)
    different = [
        f"{name} is {own.get(name)!r}, not {value!r}" for name, value in gate["filterbank"].items() if own.get(name) != value
    ]
    if different:
        raise UserError(
            f"{study} made its spectrograms with another front-end: audio.filterbank.{'; '.join(different)}. "
            f"--config studied:{study} has the study's"
        )


def _require_unmeasured(gate: dict[str, Any], data: PreparedData, study: Path) -> None:
    """No row that this run measures may have gone into a synthetic example, which would carry it into training."""
    rows = data.manifest.take(data.manifest.splits != "train")
    if "content" not in rows.metadata or not (rows.metadata["content"] != "").all():
        raise UserError(
            "objective.augment.synthetic needs data.check 'decode': only contents tell what synthetic examples are made of"
        )
    sources = text_column(gate["sources"])
    known = np.isin(rows.metadata["content"], sources) | np.isin(rows.metadata["file_hash"], sources)
    if known.any():
        raise UserError(
            f"{int(known.sum())} of {len(rows)} recordings that this run measures are among those that the synthetic examples of "
            f"{study} were made of; split them as the study did (data.split_seed 0 and the default shares), or study anew"
        )
