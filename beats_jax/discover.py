"""`python -m beats_jax.discover`: kinds of sound in recordings without labels: regions, embeddings, clusters, a page; resumes."""

from __future__ import annotations

import argparse
import ast
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beats_jax.command_line import ArgumentParser, run_verb
from beats_jax.errors import UserError

if TYPE_CHECKING:
    from beats_jax.pipelines.discovering.settings import DiscoverSettings

EXAMPLES = """
examples:
  python -m beats_jax.discover --input recordings --output found
  python -m beats_jax.discover --input recordings --output found --model BEATs_iter3_plus_AS2M --low-hz 500 --high-hz 8000
  python -m beats_jax.discover --input recordings --output found --labels annotations.csv --smallest 10
  python -m beats_jax.discover --input recordings --output found --method kmeans --clusters 12
  python -m beats_jax.discover --input embeddings_of_embed --output found --reference known_sounds

The same command again resumes a killed one, and adds recordings that are new in the folder. With other settings of clusters the
tables and the page are made anew from the embeddings on disk. Then look at OUTPUT/report.html, and refine the clusters:
  python -m beats_jax.review --clusters found
"""


def parser() -> ArgumentParser:
    """The verb's arguments."""
    description = (
        "Find kinds of sound without labels; writes regions.csv, clusters.csv, tables for Raven and Audacity, report.html."
    )
    result = ArgumentParser("discover", description, EXAMPLES)
    add = result.add_argument
    add("--input", nargs="+", required=True, metavar="DIR_OR_FILE", help="folders of recordings, files, or an output of embed")
    add("--output", required=True, type=Path, metavar="DIR", help="folder of the results, new or to resume")
    add("--labels", default="", metavar="CSV", help="known labels of events or of whole recordings: figures into metrics.json")
    add("--reference", default="", metavar="DIR", help="known sounds, an output of discover or embed: how new each sound is")
    add("--format", nargs="*", default=["raven,audacity"], metavar="NAME", help="tables of events (default: raven audacity)")
    add("--representatives", type=int, default=3, metavar="N", help="sounds that stand for each cluster (default: 3)")
    add("--members", type=int, default=3, metavar="N", help="others of each cluster on the page, drawn at random (default: 3)")
    add("--strict", action="store_true", help="stop at the first unusable file; else errors.csv lists it")
    _add_sounds(result)
    _add_clusters(result)
    return result


def _add_sounds(result: argparse.ArgumentParser) -> None:
    group = result.add_argument_group("sounds and their embeddings")
    add = group.add_argument
    add("--low-hz", type=float, metavar="HZ", help="lowest frequency that is searched (default: by the data)")
    add("--high-hz", type=float, metavar="HZ", help="highest (default: by the data)")
    add("--min-seconds", type=float, metavar="S", help="shorter regions are dropped (default: by the data)")
    add("--seed-db", type=float, metavar="DB", help="a region reaches so far above the background (default: 26)")
    add("--edge-db", type=float, metavar="DB", help="and has so much everywhere in it (default: 10)")
    add("--region", nargs="+", default=[], metavar="NAME=X", help="other settings of regions, also under bambird's names")
    add("--model", default="filterbank", metavar="NAME", help="registered name, file, model folder or run (default: filterbank)")
    add("--layer", type=int, default=-1, metavar="N", help="-1 = the features; 0 = before the first block, 1 = after it")
    add("--pooling", default="mean", metavar="NAME", help="mean max first last std cls (default: mean)")
    add("--margin", type=float, default=0.0, metavar="S", help="seconds around a region that are embedded with it (default: 0)")
    add("--column", default="", metavar="NAME", help="of an output of embed, where it has several")
    add("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of the computation")
    add("--batch-size", type=int, metavar="N", help="regions computed at once (default: by the device)")
    add("--threads", type=int, default=4, metavar="N", help="recordings read at once (default: 4)")


def _add_clusters(result: argparse.ArgumentParser) -> None:
    group = result.add_argument_group("clusters")
    add = group.add_argument
    add("--method", default="", metavar="NAME", help="hdbscan dbscan kmeans gmm agglomerative; fast_hdbscan plscan evoc")
    add("--clusters", type=int, metavar="N", help="how many, for kmeans, gmm and agglomerative")
    add("--smallest", type=int, metavar="N", help="sounds of the smallest cluster (default: by their number)")
    add("--group", nargs="+", default=[], metavar="NAME=X", help="other settings of clusters: scale reduce dimensions ...")
    add("--iterations", type=int, default=0, metavar="N", help="times that an encoder learns from the clusters (default: 0)")
    add("--seed", type=int, default=0, metavar="N", help="of all that is drawn (default: 0)")


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, finds the clusters and returns the exit status."""
    arguments = parser().parse_args(argv)
    print("opening ...", flush=True)

    from beats_jax.pipelines.discovering.discover import discover

    command = "python -m beats_jax.discover " + shlex.join(argv)
    discover(discover_settings(arguments), arguments.output, strict=arguments.strict, command=command)
    return 0


def discover_settings(arguments: argparse.Namespace) -> DiscoverSettings:
    """The settings of parsed arguments. Raises `UserError` for an unknown name or a value out of range."""
    from beats_jax.audio.regions.settings import with_options
    from beats_jax.pipelines.discovering.settings import DiscoverSettings, default_grouping

    names = ("low_hz", "high_hz", "min_seconds", "seed_db", "edge_db")
    regions = with_options(None, _given(arguments, names) | parse_pairs(arguments.region, "--region"))
    grouping = {"seed": arguments.seed, **_given(arguments, ("clusters",))}
    grouping |= {"method": arguments.method} if arguments.method else {}
    grouping |= parse_pairs(arguments.group, "--group")
    chosen = default_grouping(grouping)
    smallest = chosen.smallest if "smallest" in grouping else 0
    names = ("model", "layer", "pooling", "dtype", "margin", "column", "labels", "reference")
    same = (*names, "representatives", "members", "iterations")
    return DiscoverSettings(
        inputs=tuple(arguments.input),
        regions=regions,
        grouping=chosen,
        formats=tuple(dict.fromkeys(name for text in arguments.format for name in text.split(",") if name)),
        smallest=smallest if arguments.smallest is None else arguments.smallest,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        **{name: getattr(arguments, name) for name in same},
    )


def _given(arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def parse_pairs(texts: Sequence[str], argument: str) -> dict[str, Any]:
    """`NAME=VALUE` texts; a value that is no number, True, False or None is a text. Raises `UserError` for one without `=`."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{argument} {text} has no value; write {argument} NAME=VALUE")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
