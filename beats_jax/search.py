"""`python -m beats_jax.search`: the windows of a table of embeddings that are most like a clip."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from beats_jax.command_line import ArgumentParser, run_verb
from beats_jax.errors import UserError

EXAMPLES = """
examples:
  python -m beats_jax.search --like owl.wav --embeddings embeddings
  python -m beats_jax.search --like night.flac@125-130 owl.wav --unlike rain.wav --embeddings embeddings --output found
  python -m beats_jax.search --like owl.wav --embeddings embeddings --top 200 --apart 10 --output found.csv --clips clips

The score of a window is its largest similarity to a clip of --like, less its largest similarity to one of --unlike.
EMBEDDINGS is the --output of python -m beats_jax.embed, whose model embeds the clips, too.
"""


def parser() -> ArgumentParser:
    """The verb's arguments."""
    from beats_jax.datasets.tables.registry import TABLES

    description = "Search a table of embeddings for the windows that are most like a clip."
    result = ArgumentParser("search", description, EXAMPLES)
    clip = "CLIP[@START-END]"
    result.add_argument("--like", required=True, nargs="+", metavar=clip, help="files, or stretches of files in seconds")
    result.add_argument("--unlike", nargs="+", default=[], metavar=clip, help="counter-examples, given likewise")
    result.add_argument("--embeddings", required=True, metavar="DIR", help="output of python -m beats_jax.embed")
    result.add_argument("--top", type=int, default=50, metavar="N", help="results (default: 50)")
    result.add_argument(
        "--output", type=Path, metavar="DIR_OR_FILE", help="new folder, or .csv or .parquet file, for the results"
    )
    result.add_argument(
        "--format",
        nargs="+",
        default=["csv"],
        metavar="NAME",
        help=f"tables in the folder: {' '.join(TABLES)} (default: csv)",
    )
    result.add_argument("--label", default="match", metavar="TEXT", help="label of the results in the tables (default: match)")
    result.add_argument("--clips", type=Path, metavar="DIR", help="new folder for a WAV of each result")
    result.add_argument(
        "--context", type=float, default=0.0, metavar="S", help="seconds before and behind each clip (default: 0)"
    )
    result.add_argument(
        "--apart", type=float, default=0.0, metavar="S", help="seconds between the starts of two results of a recording, at least"
    )
    result.add_argument(
        "--leave-out-examples",
        action="store_true",
        help="without windows that overlap a clip of --like in its own recording; else these lead",
    )
    result.add_argument("--metric", default="cosine", metavar="NAME", help="cosine, dot or euclidean (default: cosine)")
    result.add_argument("--column", metavar="NAME", help="which embedding, where the table has several layers or poolings")
    result.add_argument(
        "--model", metavar="NAME", help="place of the model, where it has moved since the recordings were embedded"
    )
    result.add_argument(
        "--approximate",
        action="store_true",
        help="by an index, built once beside the embeddings (needs usearch): for millions of windows",
    )
    return result


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, searches and returns the exit status."""
    arguments = parser().parse_args(argv)

    from beats_jax.pipelines.search import SearchSettings, search

    settings = SearchSettings(
        embeddings=arguments.embeddings,
        like=tuple(arguments.like),
        unlike=tuple(arguments.unlike),
        top=arguments.top,
        metric=arguments.metric,
        column=arguments.column,
        apart=arguments.apart,
        leave_out_examples=arguments.leave_out_examples,
        approximate=arguments.approximate,
        model=arguments.model,
        formats=tuple(dict.fromkeys(arguments.format)),
        label=arguments.label,
        context=arguments.context,
    )
    defaults = parser()
    for name, place in (("format", "output"), ("label", "output"), ("context", "clips")):
        if getattr(arguments, name) != defaults.get_default(name) and getattr(arguments, place) is None:
            raise UserError(f"--{name} has no use without --{place}; give it, or leave --{name} out")
    search(settings, arguments.output, arguments.clips)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
