"""`python -m beats_jax.evaluate`: measure a trained run."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from beats_jax.command_line import ArgumentParser, run_verb

EXAMPLES = """
examples:
  python -m beats_jax.evaluate --run runs/quickstart --output evaluation
  python -m beats_jax.evaluate --run runs/owls --data other_site/labels.csv --output other_site_evaluation

--data takes a folder with one folder per class, a folder in the ESC-50 layout, or a CSV table with the run's own column
names; without it the run's own test recordings are measured again.
"""


def parser() -> ArgumentParser:
    """The verb's arguments."""
    result = ArgumentParser(
        prog="beats_jax.evaluate",
        description="Measure a trained run; writes metrics.json, predictions.csv and report.html.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder of a finished run")
    result.add_argument(
        "--data", type=Path, metavar="DIR_OR_CSV", help="other labelled recordings (default: the run's own test split)"
    )
    result.add_argument("--output", type=Path, required=True, metavar="DIR", help="new or empty folder for the results")
    result.add_argument(
        "--strict", action="store_true", help="stop at the first unusable file instead of listing it in errors.csv"
    )
    return result


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, evaluates and returns the exit status."""
    arguments = parser().parse_args(argv)

    from beats_jax.pipelines.evaluation import evaluate_run

    command = "python -m beats_jax.evaluate " + shlex.join(argv)
    evaluate_run(arguments.run, arguments.data, arguments.output, strict=arguments.strict, command=command)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
