"""The arguments of the review page, as `python -m beats_jax.review` and `streamlit run` take them."""

from __future__ import annotations

import argparse
import getpass
from dataclasses import dataclass
from pathlib import Path

from beats_jax.command_line import ArgumentParser
from beats_jax.datasets.tables.reviews import REVIEW_FILE
from beats_jax.errors import UserError
from beats_jax.explorer.arguments import LANGUAGES
from beats_jax.pipelines.reviewing.candidates import KINDS
from beats_jax.pipelines.reviewing.order import ORDERS

EXAMPLES = """
examples:
  python -m beats_jax.review --detections owls_found
  python -m beats_jax.review --detections owls_found --label tawny_owl --order stratified --context 2 --reviewer ana
  python -m beats_jax.review --detections owls_found --of windows --label tawny_owl --order uncertain
  python -m beats_jax.review --detections table.selections.txt --audio recordings --review verdicts.csv
  python -m beats_jax.review --clusters found --reviewer ana

Keys: Y yes, N no, U unsure, Z takes the last verdict back, Space plays, arrows move, PageUp and PageDown turn the page.
Every verdict is in DETECTIONS/review.csv before the page shows it. What to do with it:
  python -m beats_jax.evaluate --reviewed DETECTIONS/review.csv --output precision     a table for detect --precision-table
  python -m beats_jax.train ... --config.data.reviewed="('DETECTIONS/review.csv',)"    trains on these clips, too

With --clusters the page shows the clusters of discover: type a name and press Enter, merge, split, drop, move single sounds.
Every decision is in CLUSTERS/refinements.csv before the page shows it; CLUSTERS/clusters_reviewed.csv has all regions.
  python -m beats_jax.train ... --config.data.source=clusters --config.data.metadata_file=CLUSTERS
"""
LONGEST_CONTEXT = 30.0
CLUSTER_CONTEXT = 0.3  # seconds around a region, which has the length of the sound itself
ONLY_DETECTIONS = ("of", "label", "order", "embeddings", "review", "seed")  # arguments without a meaning for clusters


@dataclass(frozen=True)
class ReviewArguments:
    """What the page shows. Texts are "" where they are not given."""

    detections: Path
    kind: str
    label: str
    order: str
    audio: str
    embeddings: str
    review: Path
    context: float
    reviewer: str
    language: str
    seed: int


def parser() -> ArgumentParser:
    """The verb's arguments."""
    result = ArgumentParser("review", "Decide on a page in the browser which detections are right; writes review.csv.", EXAMPLES)
    add = result.add_argument
    add("--detections", type=Path, metavar="DIR_OR_TABLE", help="output of detect, or any table of events")
    add("--clusters", type=Path, metavar="DIR", help="output of discover, whose clusters are named, merged, split and dropped")
    add("--of", choices=KINDS, default=KINDS[0], help="what is reviewed; windows: all that detect scored (needs --label)")
    add("--label", default="", metavar="L", help="class that is shown first (default: the one with most detections)")
    add("--order", choices=ORDERS, default=ORDERS[0], help="what comes first (default: strongest)")
    add("--context", type=float, metavar="S", help="seconds shown before and after (default: 1; of clusters 0.3)")
    add("--audio", default="", metavar="DIR", help="where the recordings are now; nothing outside of it is opened")
    add("--embeddings", default="", metavar="DIR", help="output of embed for these recordings, for --order diverse")
    add("--review", type=Path, metavar="FILE", help=f"table of verdicts (default: {REVIEW_FILE} beside the detections)")
    add("--reviewer", default="", metavar="NAME", help="who reviews (default: the user's name)")
    add("--seed", type=int, default=0, metavar="N", help="of --order stratified and random (default: 0)")
    add("--language", choices=LANGUAGES, default="en", help="of the page")
    add("--port", type=int, default=8502, metavar="N", help="of the page (default: 8502)")
    add("--address", default="127.0.0.1", metavar="HOST", help="0.0.0.0 = every machine that reaches this one")
    return result


def review_arguments(parsed: argparse.Namespace) -> ReviewArguments:
    """What the page of detections needs of them. Raises `UserError` for a value out of range."""
    if parsed.detections is None:
        raise UserError("give --detections, an output of detect or a table of events, or --clusters, an output of discover")
    _require_context(parsed)
    if parsed.order == "diverse" and not parsed.embeddings:
        raise UserError("--order diverse needs --embeddings, the output of embed for these recordings")
    folder = parsed.detections if parsed.detections.is_dir() else parsed.detections.parent
    return ReviewArguments(
        parsed.detections,
        parsed.of,
        parsed.label,
        parsed.order,
        parsed.audio,
        parsed.embeddings,
        parsed.review or folder / REVIEW_FILE,
        1.0 if parsed.context is None else parsed.context,
        parsed.reviewer or _user(),
        parsed.language,
        parsed.seed,
    )


@dataclass(frozen=True)
class ClusterArguments:
    """What the page of clusters shows. audio: "" where it is not given."""

    clusters: Path
    audio: str
    context: float
    reviewer: str
    language: str


def cluster_arguments(parsed: argparse.Namespace) -> ClusterArguments:
    """What the page of clusters needs. Raises `UserError` for a value out of range, or one that is of detections only."""
    _require_context(parsed)
    if parsed.detections is not None:
        raise UserError("--detections and --clusters are two pages; give one of them")
    defaults = parser()
    if idle := [name for name in ONLY_DETECTIONS if getattr(parsed, name) != defaults.get_default(name)]:
        raise UserError(f"--{idle[0]} has no use with --clusters; leave it out")
    context = CLUSTER_CONTEXT if parsed.context is None else parsed.context
    return ClusterArguments(parsed.clusters, parsed.audio, context, parsed.reviewer or _user(), parsed.language)


def _require_context(parsed: argparse.Namespace) -> None:
    if parsed.context is not None and not 0 <= parsed.context <= LONGEST_CONTEXT:
        raise UserError(f"--context is {parsed.context:g}; it must be from 0 to {LONGEST_CONTEXT:g} seconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"
