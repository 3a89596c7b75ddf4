"""The arguments of `evaluate` by what they belong to, and the settings that they make.

All are None where they are absent, so that those of another job can be refused instead of having no effect.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from beats_jax.errors import UserError

COLUMNS = {
    "label": "the label (default: label)",
    "audio": "the file (default: filename)",
    "group": "rows that must stay together, such as a recorder or a day",
    "split": "train or test; without it every row is tested in its turn",
    "start": "the start of a row in its file, in seconds",
    "end": "its end",
}
READING = (*(f"{name}_column" for name in COLUMNS), "window_seconds", "multi_label")  # fields of DataConfig
_ENCODER = ("layers", "poolings", "baseline", "seed", "unseen", "cache")
_EPISODES = (
    "n_way",
    "n_shot",
    "n_query",
    "n_tasks",
    "method",
    "shared_recordings",
    "leave_out_small",
    "class_draws",
    "draw_size",
)
SETTINGS: dict[str, tuple[str, ...]] = {  # job -> the arguments that are fields of its settings
    "probe": (*_ENCODER, "probe_kinds", "folds", "repeats", "token_layer"),
    "episodes": (*_ENCODER, *_EPISODES),
    "few_shot_detection": ("n_shot", "iou", "seed"),
    "detections": ("iou", "tolerance", "segment"),
}
READS: dict[str, tuple[str, ...]] = {"probe": READING, "episodes": tuple(name for name in READING if name != "multi_label")}
FIELDS: dict[str, str] = {"probe_kinds": "kinds", "baseline": "baselines", "method": "methods"}  # where the names differ


def add_event_arguments(group: Any) -> None:
    """The arguments of --detections."""
    rule = group.add_mutually_exclusive_group()
    rule.add_argument(
        "--iou", type=float, metavar="SHARE", help="of the time of both that must be shared (default: 0.5; few-shot 0.3)"
    )
    rule.add_argument(
        "--tolerance", type=float, metavar="S", help="instead: seconds by which starts, and ends of short events, may differ"
    )
    group.add_argument("--segment", type=float, metavar="S", help="length of the segments that are compared too (default: 1)")


def add_encoder_arguments(group: Any) -> None:
    """What --probe and --episodes share: the encoder's layers, its baselines, and how the data are read."""
    group.add_argument(
        "--layers",
        type=_integers,
        metavar="I,J",
        help="layers (probes: all; episodes: the features); --layers=-1: the last",
    )
    group.add_argument(
        "--poolings", type=_names, metavar="A,B", help="mean, max, first, last, std, cls (probes: all it has; episodes: mean)"
    )
    group.add_argument(
        "--baseline", type=_names, metavar="A,B", help="fbank (mean and std of mel bands), random (same model, untrained)"
    )
    group.add_argument("--seed", type=int, help="of folds, episodes, intervals and random weights (default: 0)")
    group.add_argument("--unseen", action="store_const", const=True, help="leave out recordings that the run was trained on")
    group.add_argument("--cache", type=Path, metavar="DIR", help="folder of kept embeddings (default: with downloaded models)")
    for name, purpose in COLUMNS.items():
        group.add_argument(f"--{name}-column", metavar="NAME", help=f"column of the CSV with {purpose}")
    group.add_argument(
        "--window-seconds", type=float, metavar="S", help="longest window read at once (default: 10, or the run's)"
    )


def add_probe_arguments(group: Any) -> None:
    """The other arguments of --probe."""
    group.add_argument(
        "--probe-kinds", type=_names, metavar="A,B", help="logistic, ridge, knn, prototype (default: all), attentive"
    )
    group.add_argument("--folds", type=int, metavar="K", help="number of folds, if the data has none (default: 5)")
    group.add_argument("--repeats", type=int, metavar="N", help="drawings of the folds (default: 1)")
    group.add_argument("--token-layer", type=int, metavar="I", help="layer of the attentive probe (default: -1, the last)")
    group.add_argument("--multi-label", action="store_const", const=True, help="rows may have several labels or none")


def add_episode_arguments(group: Any) -> None:
    """The other arguments of --episodes."""
    for name, what, default in (
        ("way", "classes of an episode", 5),
        ("shot", "labelled examples of each class; of --few-shot-detection too", 5),
        ("query", "examples of each class to be named", 15),
        ("tasks", "episodes", 600),
    ):
        group.add_argument(f"--n-{name}", type=int, metavar="N", help=f"{what} (default: {default})")
    group.add_argument(
        "--method",
        type=_names,
        metavar="A,B",
        help="prototypical, simpleshot, nearest-mean, logistic, ridge (default: these), laplacian (names an episode's "
        "queries together); matching, relation: of a run that was trained with it. The first is the headline",
    )
    always = {"action": "store_const", "const": True}
    group.add_argument(
        "--shared-recordings", **always, help="support and query may be of one recording (flatters; as darksound draws them)"
    )
    group.add_argument("--leave-out-small", **always, help="leave out classes with too few recordings instead of refusing them")
    group.add_argument("--class-draws", type=int, metavar="D", help="draws of classes, for the interval over them (default: 10)")
    group.add_argument("--draw-size", type=int, metavar="M", help="classes of a draw (default: half of them, at least --n-way)")


def refuse_others(arguments: argparse.Namespace, job: str) -> None:
    """Raises `UserError` where an argument was given that is of other jobs only."""
    of_job = {name: (*names, *READS.get(name, ())) for name, names in SETTINGS.items()}
    for name in dict.fromkeys(name for names in of_job.values() for name in names):
        if getattr(arguments, name) is not None and name not in of_job.get(job, ()):
            owners = " and ".join(_flag(owner) for owner, names in reversed(of_job.items()) if name in names)
            hint = "; a run is measured with the settings of its training" if job == "run" and "probe" in owners else ""
            raise UserError(f"{_flag(name)} belongs to {owners}{hint}")


def settings_of(arguments: argparse.Namespace, job: str) -> dict[str, Any]:
    """Fields of a job's settings for the arguments that were given, with `reading` where it reads labelled data."""
    given = {FIELDS.get(name, name): getattr(arguments, name) for name in SETTINGS[job] if getattr(arguments, name) is not None}
    if job not in READS:
        return given
    return {**given, "reading": {name: getattr(arguments, name) for name in READS[job] if getattr(arguments, name) is not None}}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _integers(value: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is no list of whole numbers such as 0,6,12") from None


_integers.__name__ = "list of whole numbers"  # argparse puts the name into its message
