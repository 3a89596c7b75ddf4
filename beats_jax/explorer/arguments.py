"""The arguments of the page, as `python -m beats_jax.explore` and `streamlit run` take them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from beats_jax.command_line import ArgumentParser
from beats_jax.pipelines.exploring.collection import MOST_SAMPLES, ExploreSettings

LANGUAGES = ("en", "es")
EXAMPLES = """
examples:
  python -m beats_jax.explore --data recordings
  python -m beats_jax.explore --data recordings --model BEATs_iter3_plus_AS2M --max-samples 1000 --language es
  python -m beats_jax.explore --embeddings owls --data recordings --labels labels.csv --run runs/owls

A folder of audio is embedded first, into --output; the same command again only adds new recordings. The page opens on this
machine only (127.0.0.1) unless --address says otherwise. Labels given on the page are in OUTPUT/labels.csv; the page shows
the command that trains on them.
"""


@dataclass(frozen=True)
class PageArguments:
    """What the page shows: windows, the run whose curves are drawn ("" = none), its first language; whether it may train."""

    settings: ExploreSettings
    run: str
    language: str
    training: bool


def parser() -> ArgumentParser:
    """The verb's arguments; --data_dir, --checkpoint_path and --max_samples are those of `interactive_vis.py`."""
    result = ArgumentParser("explore", "Explore recordings on a page in the browser: map, sounds, clusters, labels.", EXAMPLES)
    add = result.add_argument
    add("--data", "--data_dir", default="", metavar="DIR", help="folder of audio, which is embedded; or where recordings lie now")
    add("--embeddings", default="", metavar="DIR", help="what `embed` wrote, in place of embedding --data")
    add("--model", "--checkpoint_path", default="", metavar="M", help="as of `embed` (default: filterbank, without weights)")
    add("--column", default="", metavar="NAME", help="of the embeddings, where there are several")
    add("--max-samples", "--max_samples", type=int, default=MOST_SAMPLES, metavar="N", help="windows on the map at most")
    add("--labels", default="", metavar="CSV", help="known labels of recordings or events (default: names of class folders)")
    add("--output", default="explored", metavar="DIR", help="embeddings, maps and given labels (default: explored)")
    add("--run", default="", metavar="DIR", help="a run of `train` whose learning curves are shown")
    add("--training", action="store_true", help="the page may start a training on this machine")
    add("--seed", type=int, default=0, metavar="N", help="of sampling, maps and clusters (default: 0)")
    add("--language", choices=LANGUAGES, default="en", help="of the page at first")
    add("--embedded", default="", help=argparse.SUPPRESS)  # where the verb has embedded --data, so that its server need not
    add("--port", type=int, default=8501, metavar="N", help="of the page (default: 8501)")
    add("--address", default="127.0.0.1", metavar="HOST", help="0.0.0.0 = every machine that reaches this one")
    add("--max-upload", type=int, default=200, metavar="MB", help="largest file that the page takes (default: 200)")
    return result


def page_arguments(parsed: argparse.Namespace) -> PageArguments:
    """What the page needs of them. Raises `UserError` for a folder that is not there or a value out of range."""
    names = ("data", "embeddings", "model", "labels", "output", "column", "max_samples", "seed", "embedded")
    settings = ExploreSettings(**{name: getattr(parsed, name) for name in names})
    return PageArguments(settings, parsed.run, parsed.language, parsed.training)
