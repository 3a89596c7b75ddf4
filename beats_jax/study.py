"""`python -m beats_jax.study`: does synthetic data help this detector? Resumes where it was stopped."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from beats_jax.command_line import ArgumentParser, run_verb

EXAMPLES = """
examples:
  python -m beats_jax.study --data recordings --output studies/owls --budget 2h
  python -m beats_jax.study --data labels.csv --label-column species --output studies/birds --sizes 5 10 --seeds 10
  python -m beats_jax.study --data recordings --output studies/owls --arms real oversampled classic scenes vae vae_gated

--data is a folder of class folders, one with labels.csv, a known data set or a table. The same command resumes a stopped study;
more arms, sizes, ratios, seeds or budget add to it. docs/study.md explains the arms and the page.
"""


def parser() -> ArgumentParser:
    """The verb's arguments."""
    description = "Explore labelled recordings, measure baselines, and test whether synthetic examples help; writes report.html."
    result = ArgumentParser("study", description, EXAMPLES)
    result.add_argument("--data", required=True, metavar="DIR_OR_CSV", help="labelled recordings, two classes at least")
    result.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder of the study, new or to resume")
    result.add_argument(
        "--budget", metavar="TIME", help="2h, 45m, 90s: arms and sizes that do not fit are left out (default: all)"
    )
    result.add_argument(
        "--label-column", default="", metavar="NAME", help="column of the label in a table (default: label, category)"
    )
    result.add_argument(
        "--background",
        default="",
        metavar="CLASS",
        help="class without a sound of interest; none = no class (default: by its name)",
    )
    result.add_argument("--arms", nargs="+", metavar="NAME", help="what is compared, `real` among them (default: all)")
    result.add_argument("--baselines", nargs="*", metavar="NAME", help="classifiers to measure first (default: all)")
    result.add_argument(
        "--sizes", nargs="*", metavar="N", help="real examples of a class (default: 5 to 1000); all of them on top"
    )
    result.add_argument("--ratios", nargs="+", metavar="R", help="synthetic examples for each real one (default: 1 4)")
    result.add_argument("--seeds", type=int, default=5, metavar="N", help="trainings of each arm (default: 5)")
    result.add_argument("--steps", type=int, default=300, metavar="N", help="of each training (default: 300)")
    result.add_argument("--generator-steps", type=int, default=400, metavar="N", help="of each generator (default: 400)")
    result.add_argument("--frames", type=int, default=64, choices=(64, 128), help="of a picture of a clip (default: 64)")
    result.add_argument(
        "--low-hz", type=float, default=0.0, metavar="HZ", help="lowest frequency of a picture (default: by the rate)"
    )
    result.add_argument("--high-hz", type=float, default=0.0, metavar="HZ", help="highest (default: half the rate)")
    result.add_argument(
        "--margin", type=float, default=0.005, metavar="D", help="differences of AUROC within it count as none (default: 0.005)"
    )
    result.add_argument("--strict", action="store_true", help="stop at the first unusable file; else errors.csv lists it")
    return result


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, runs or resumes the study and returns the exit status."""
    arguments = parser().parse_args(argv)

    from beats_jax.pipelines.studying.settings import ARMS, BASELINES, SIZES, StudySettings, numbers, parse_seconds, ratio
    from beats_jax.pipelines.studying.study import study

    settings = StudySettings(
        data=arguments.data,
        label_column=arguments.label_column,
        background=arguments.background,
        frames=arguments.frames,
        low_hz=arguments.low_hz,
        high_hz=arguments.high_hz,
        arms=ARMS if arguments.arms is None else tuple(arguments.arms),
        baselines=BASELINES if arguments.baselines is None else tuple(arguments.baselines),
        sizes=numbers(arguments.sizes, SIZES, int),
        ratios=numbers(arguments.ratios, (1.0, 4.0), ratio),
        seeds=arguments.seeds,
        steps=arguments.steps,
        generator_steps=arguments.generator_steps,
        margin=arguments.margin,
    )
    budget = None if arguments.budget is None else parse_seconds(arguments.budget)
    command = "python -m beats_jax.study " + shlex.join(argv)
    study(settings, arguments.output, budget, strict=arguments.strict, command=command)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
