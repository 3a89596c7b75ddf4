"""`python -m beats_jax.detect`: sounds in recordings of any number and length, as tables of events; resumes."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from beats_jax.command_line import ArgumentParser, add_grid_arguments, add_process_arguments, run_verb, start_processes
from beats_jax.errors import UserError

if TYPE_CHECKING:
    from beats_jax.pipelines.detecting.detect import EventSettings
    from beats_jax.pipelines.detecting.detector import Detector

EXAMPLES = """
examples:
  python -m beats_jax.detect --input recordings --model runs/owls --output owls --format csv,raven
  python -m beats_jax.detect --input recordings --model runs/owls --output owls --threshold 0.5 tawny_owl=0.8 --gap 2
  python -m beats_jax.detect --input recordings --model BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2 --output o --labels Owl Crow
  python -m beats_jax.detect --input recordings --model runs/owls --output owls --precision 0.9 --precision-table seen.csv --rates
  python -m beats_jax.detect --input recordings --examples five_clips --output owls --format raven

The same command again resumes a killed one, and adds recordings that are new in the folder. With other thresholds, labels,
rules or formats it makes the tables anew from the scores in OUTPUT/scores, without computing them again; then --input, which
may be on another disk, can be left out.
The threshold of a label: --threshold LABEL=X, else --threshold X, else --precision, else the run's operating point, else 0.5.
"""
TEMPLATE_BATCH = 256  # windows as short as a call, without a model: fewer at once wait for Python
EVENT_ARGUMENTS = (
    *("threshold", "precision", "precision_table", "labels", "species_list", "rates", "format"),
    *("smooth", "low_ratio", "gap", "least", "extent"),
)


def parser() -> ArgumentParser:
    """The verb's arguments."""
    description = "Find sounds in recordings; writes OUTPUT/scores/part-*.parquet, tables of events, detect.json and errors.csv."
    result = ArgumentParser("detect", description, EXAMPLES)
    result.add_argument(
        "--input",
        nargs="+",
        default=[],
        metavar="DIR_OR_FILE",
        help="folders (with all below them), files; without it the tables are made anew from the scores in OUTPUT",
    )
    result.add_argument(
        "--model",
        metavar="NAME",
        help="a run, a probe of evaluate --probe, or a registered name, file or model folder with a head; with --examples any "
        "model (default there: filterbank)",
    )
    result.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder of the results, new or to resume")
    _add_example_arguments(result)
    _add_window_arguments(result)
    _add_event_arguments(result)
    add_process_arguments(result)
    return result


def _add_example_arguments(result: argparse.ArgumentParser) -> None:
    group = result.add_argument_group("a few examples in place of a trained model")
    group.add_argument(
        "--examples",
        type=Path,
        metavar="DIR",
        help="a folder of clips for each class, a folder of clips, or a table of events (file, start, end, label)",
    )
    group.add_argument("--negatives", type=Path, metavar="DIR", help="clips of sounds that are like them and are not meant")
    group.add_argument(
        "--false-alarms",
        type=float,
        metavar="N",
        help="windows an hour of the recordings' own background that may reach a score of 0.5 (default: 20)",
    )


def _add_window_arguments(result: argparse.ArgumentParser) -> None:
    group = result.add_argument_group("scores of windows")
    add_grid_arguments(group)
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the computation; auto = the machine's own",
    )
    group.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help=f"windows computed at once (default: by the device; {TEMPLATE_BATCH} with --examples and no model)",
    )
    group.add_argument("--threads", type=int, default=4, metavar="N", help="recordings decoded at once (default: 4)")
    group.add_argument("--strict", action="store_true", help="stop at the first unusable file; else errors.csv lists it")
    group.add_argument("--scores-only", action="store_true", help="scores of windows, no events and no tables")


def _add_event_arguments(result: argparse.ArgumentParser) -> None:
    from beats_jax.datasets.tables.registry import TABLES

    group = result.add_argument_group("events")
    group.add_argument(
        "--format",
        nargs="+",
        default=["csv"],
        metavar="NAME",
        help=f"tables to write: {' '.join(TABLES)}, with commas or blanks (default: csv)",
    )
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument("--labels", nargs="+", default=[], metavar="LABEL", help="labels to look for (default: all)")
    chosen.add_argument("--species-list", type=Path, metavar="FILE", help="the same from a text file, one a line")
    group.add_argument(
        "--threshold", nargs="+", default=[], metavar="X", help="score of an event, from 0 to 1: 0.5 for all, LABEL=0.7 for one"
    )
    group.add_argument(
        "--precision", type=float, metavar="P", help="share of right detections: thresholds that reach it by --precision-table"
    )
    group.add_argument(
        "--precision-table", type=Path, metavar="FILE", help="precision by threshold of reviewed detections; rates use it too"
    )
    group.add_argument("--sure", action="store_true", help="ask --precision of the lower end of its 95%% interval")
    group.add_argument("--smooth", type=int, default=1, metavar="N", help="windows over which scores are smoothed (default: 1)")
    group.add_argument("--smoothing", choices=("mean", "median", "max"), help="how (default: mean)")
    group.add_argument(
        "--low-ratio",
        type=float,
        default=1.0,
        metavar="R",
        help="an event goes on while the score is above R times the threshold (default: 1)",
    )
    group.add_argument("--gap", type=float, default=0.0, metavar="S", help="events at most S seconds apart are one (default: 0)")
    group.add_argument("--least", type=float, default=0.0, metavar="S", help="shorter events are dropped (default: 0)")
    group.add_argument(
        "--extent",
        choices=("window", "hop", "peak"),
        help="an event covers its windows (window), of windows that overlap the middle, as long as the hop (hop), or is the best "
        "window alone, as long as the examples (peak) (default: window; peak with --examples)",
    )
    group.add_argument(
        "--rates",
        nargs="*",
        metavar="PERIOD",
        help="calls per hour by site into rates.csv, by: day hour day_hour all (default: day hour)",
    )


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, finds the sounds and returns the exit status."""
    arguments = parser().parse_args(argv)
    start_processes(arguments)

    from beats_jax.inference.store import JOB_FILE
    from beats_jax.pipelines.detecting.detect import detect
    from beats_jax.pipelines.detecting.detector import open_detector
    from beats_jax.pipelines.detecting.scores import SCORES
    from beats_jax.pipelines.window_job import ReadSettings

    if not arguments.input and not (arguments.output / SCORES / JOB_FILE).is_file():
        raise UserError(f"--input is missing, and {arguments.output} holds no scores to make tables of; give recordings")
    templates = arguments.examples is not None and arguments.model in (None, "filterbank")
    batch_size = TEMPLATE_BATCH if templates and arguments.batch_size is None else arguments.batch_size
    reading = ReadSettings(tuple(arguments.input), batch_size, arguments.threads)
    if arguments.examples is not None:
        detector = _examples_detector(arguments)
    else:
        for name in ("negatives", "false_alarms"):
            if getattr(arguments, name) is not None:
                raise UserError(f"--{name.replace('_', '-')} belongs to --examples; give both, or leave it out")
        if arguments.model is None:
            raise UserError("give --model, a run or model with a head, or --examples, a folder with a few clips")
        print("loading the model ...", flush=True)
        detector = open_detector(arguments.model, dtype=arguments.dtype, window=arguments.window, hop=arguments.hop)
    command = "python -m beats_jax.detect " + shlex.join(argv)
    events = _event_settings(arguments, detector)
    detect(detector, reading, events, arguments.output, tail=arguments.tail, strict=arguments.strict, command=command)
    return 0


def _examples_detector(arguments: argparse.Namespace) -> Detector:
    from beats_jax.pipelines.detecting.from_examples import ExampleSettings, open_examples

    optional = {"model": arguments.model, "per_hour": arguments.false_alarms}
    settings = ExampleSettings(
        arguments.examples,
        arguments.negatives,
        window=arguments.window,
        hop=arguments.hop,
        dtype=arguments.dtype,
        **{name: value for name, value in optional.items() if value is not None},
    )
    return open_examples(settings, arguments.input, arguments.output)


def _event_settings(arguments: argparse.Namespace, detector: Detector) -> EventSettings:
    from beats_jax.evaluation.metrics.precision_table import read_precision_table
    from beats_jax.inference.events import EventRule
    from beats_jax.pipelines.detecting.detect import EventSettings
    from beats_jax.pipelines.detecting.thresholds import WantedThresholds, known_labels, parse_thresholds, read_species_list

    rates = arguments.rates if arguments.rates is None else arguments.rates or ["day", "hour"]
    if arguments.precision is not None and arguments.precision_table is None:
        raise UserError("--precision needs --precision-table, the precision by threshold of reviewed detections")
    if arguments.precision_table is not None and arguments.precision is None and rates is None:
        raise UserError("--precision-table has no use without --precision or --rates; give one of them")
    if arguments.sure and arguments.precision is None:
        raise UserError("--sure has no use without --precision; give it, or leave --sure out")
    extent = arguments.extent or ("peak" if detector.seconds else "window")
    if arguments.smoothing and arguments.smooth == 1:
        raise UserError("--smoothing has no use without --smooth, the number of windows; give --smooth 3 or more")
    defaults = parser()
    if arguments.scores_only and (
        idle := [name for name in EVENT_ARGUMENTS if getattr(arguments, name) != defaults.get_default(name)]
    ):
        raise UserError(f"--scores-only makes no events, and --{idle[0].replace('_', '-')} is about them; leave out one of both")
    given = read_species_list(arguments.species_list) if arguments.species_list else arguments.labels
    formats = list(dict.fromkeys(name for text in arguments.format for name in text.split(",") if name))
    if not formats:
        raise UserError("--format names no kind of table; give csv, raven ..., or --scores-only")
    return EventSettings(
        labels=tuple(known_labels(given, detector.labels)),
        wanted=WantedThresholds(
            parse_thresholds(arguments.threshold, detector.labels),
            arguments.precision,
            read_precision_table(arguments.precision_table) if arguments.precision_table else {},
            arguments.sure,
        ),
        rule=EventRule(
            arguments.smooth, arguments.smoothing or "mean", arguments.low_ratio, arguments.gap, arguments.least, extent
        ),
        formats=() if arguments.scores_only else tuple(formats),
        rates=tuple(rates or ()),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
