"""`python -m beats_jax.evaluate`: measure a trained run."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from beats_jax.command_line import ArgumentParser, run_verb
from beats_jax.errors import UserError

EXAMPLES = """
examples:
  python -m beats_jax.evaluate --run runs/quickstart --output evaluation
  python -m beats_jax.evaluate --run runs/owls --data other_site/labels.csv --output other_site_evaluation --format md
  python -m beats_jax.evaluate --compare runs/owls runs/owls_lora --output owls_against_lora

--data takes a folder with one folder per class, a folder in the ESC-50 layout, or a CSV table with the run's own column
names; without it the run's own test recordings are measured again. --compare needs no recordings: it reads predictions.csv.
"""


def parser() -> ArgumentParser:
    """The verb's arguments."""
    result = ArgumentParser(
        prog="beats_jax.evaluate",
        description="Measure a trained run (metrics.json, predictions.csv, report.html), or compare two.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = result.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, metavar="DIR", help="folder of a finished run")
    what.add_argument(
        "--compare", type=Path, nargs=2, metavar=("RUN_A", "RUN_B"), help="two runs, or two outputs of evaluate, on the same rows"
    )
    result.add_argument(
        "--data", type=Path, metavar="DIR_OR_CSV", help="other labelled recordings (default: the run's own test split)"
    )
    result.add_argument("--output", type=Path, required=True, metavar="DIR", help="new or empty folder for the results")
    result.add_argument("--format", choices=("html", "md"), default="html", help="the report: a page, or Markdown (RESULTS.md)")
    result.add_argument(
        "--strict", action="store_true", help="stop at the first unusable file instead of listing it in errors.csv"
    )
    return result


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, evaluates and returns the exit status."""
    arguments = parser().parse_args(argv)

    command = "python -m beats_jax.evaluate " + shlex.join(argv)
    if arguments.compare:
        if arguments.data or arguments.strict:
            raise UserError("--compare reads what two runs predicted; --data and --strict belong to --run")
        from beats_jax.pipelines.comparison import compare_runs

        first, second = arguments.compare
        compare_runs(first, second, arguments.output, page=arguments.format, command=command)
        return 0
    from beats_jax.pipelines.evaluation import evaluate_run

    evaluate_run(arguments.run, arguments.data, arguments.output, strict=arguments.strict, command=command, page=arguments.format)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
