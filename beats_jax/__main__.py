"""`python -m beats_jax` and `beats-jax`: lists the verbs, or runs one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from beats_jax.command_line import run_verb

VERBS = {
    "train": "train a model on labelled audio, resumable; writes metrics, predictions and a report",
    "evaluate": "measure a trained run on its test recordings or on other data",
    "embed": "embed recordings window by window into Parquet tables, resumable",
    "detect": "find sounds in recordings: scores, events, tables for Raven, Audacity and Kaleidoscope, resumable",
    "review": "decide on a page which detections are right; what is decided trains, and gives precision by threshold",
    "search": "find the windows of embedded recordings that are most like a clip",
    "discover": "find kinds of sound in recordings without labels: regions, clusters, tables, a page; resumable",
    "study": "test whether synthetic examples help a detector: recordings, baselines, arms, verdict, resumable",
    "explore": "explore recordings on a page in the browser: map, sounds, clusters, labels",
    "convert": "convert checkpoints from PyTorch to our format and back; list and inspect checkpoints",
    "doctor": "prove that this installation computes what the published code computes; check a model",
}


def usage() -> str:
    """The list of verbs, as printed."""
    width = max(map(len, VERBS))
    lines = [f"  {name.ljust(width)}  {purpose}" for name, purpose in VERBS.items()]
    return "\n".join(
        [
            "usage: beats-jax VERB [arguments]      (the same as python -m beats_jax.VERB)",
            "",
            *lines,
            "",
            "beats-jax VERB --help shows a verb's arguments and an example.",
        ]
    )


def verb(argv: Sequence[str]) -> int:
    """Runs the verb named first in `argv`; returns its exit status (2 for an unknown verb)."""
    arguments = list(argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from beats_jax import __version__

        print(__version__)
        return 0
    if arguments[0] not in VERBS:
        print(f"error: unknown verb {arguments[0]!r}\n{usage()}", file=sys.stderr)
        return 2
    return import_module(f"beats_jax.{arguments[0]}").verb(arguments[1:])


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of all verbs; exit statuses as of `run_verb`."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
