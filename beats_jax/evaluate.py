"""`python -m beats_jax.evaluate`: measures a trained run or detections, compares two runs, or probes a frozen encoder."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from beats_jax.command_line import ArgumentParser, add_process_arguments, run_verb, start_processes
from beats_jax.errors import UserError

EXAMPLES = """
examples:
  python -m beats_jax.evaluate --run runs/quickstart --output evaluation
  python -m beats_jax.evaluate --run runs/owls --data other_site/labels.csv --output other_site_evaluation --format md
  python -m beats_jax.evaluate --compare runs/owls runs/owls_lora --output owls_against_lora
  python -m beats_jax.evaluate --probe BEATs_iter3_plus_AS2M --data owls/labels.csv --output owls_probe --baseline fbank,random
  python -m beats_jax.evaluate --probe runs/owls --data esc50 --output probe --probe-kinds logistic,attentive --folds 4
  python -m beats_jax.evaluate --detections owls_found --data annotations.csv --output owls_measured --iou 0.3
  python -m beats_jax.evaluate --reviewed owls_found/review.csv --output owls_precision

--data takes a folder with one folder per class, a folder in the ESC-50 layout, a CSV table with the run's own column names, or
events: .selections.txt of Raven, .labels.txt of Audacity; without it the run's own test recordings are measured again.
--compare needs no recordings: it reads predictions.csv.

--detections compares events with annotations: tables of Raven, Audacity, Kaleidoscope, BirdNET, CSV or Parquet, or folders.
Recordings are matched by the end of their paths, and only annotated ones count. --reviewed makes the table of precision that
detect --precision-table takes.

A probe trains small classifiers on every layer and pooling of a frozen encoder. Nested folds choose among them and measure the
choice. Embeddings are kept on disk, so that a second probe of the same files takes seconds. With 50 labels begin here.
"""
COLUMNS = {
    "label": "the label (default: label)",
    "audio": "the file (default: filename)",
    "group": "rows that must stay together, such as a recorder or a day",
    "split": "train or test; without it every row is tested in its turn",
    "start": "the start of a row in its file, in seconds",
    "end": "its end",
}


def parser() -> ArgumentParser:
    """The verb's arguments."""
    description = "Measure a run or detections, compare runs, or probe an encoder; writes metrics.json, tables, report.html."
    result = ArgumentParser("evaluate", description, EXAMPLES)
    what = result.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, metavar="DIR", help="folder of a finished run")
    what.add_argument(
        "--compare", type=Path, nargs=2, metavar=("RUN_A", "RUN_B"), help="two runs, or two outputs of evaluate, on the same rows"
    )
    what.add_argument("--probe", metavar="MODEL", help="encoder to probe: a name of the registry, a file, a folder or a run")
    what.add_argument("--detections", type=Path, metavar="DIR_OR_TABLE", help="output of detect, or any table of events")
    what.add_argument(
        "--reviewed",
        type=Path,
        metavar="TABLE",
        help="review.csv: file, start, end, label, score, verdict (yes, no, unsure)",
    )
    result.add_argument(
        "--data",
        type=Path,
        metavar="DIR_OR_CSV",
        help="other labelled recordings (default: the run's own test split), or annotations for --detections",
    )
    result.add_argument("--output", type=Path, required=True, metavar="DIR", help="new or empty folder for the results")
    result.add_argument("--format", choices=("html", "md"), default="html", help="the report: a page, or Markdown (RESULTS.md)")
    result.add_argument(
        "--strict", action="store_true", help="stop at the first unusable file instead of listing it in errors.csv"
    )
    _add_event_arguments(result.add_argument_group("detections"))
    _add_probe_arguments(result.add_argument_group("probing"))
    add_process_arguments(result)
    return result


def _add_event_arguments(group: Any) -> None:
    """The arguments of --detections; None where absent, so that the others can refuse them."""
    rule = group.add_mutually_exclusive_group()
    rule.add_argument("--iou", type=float, metavar="SHARE", help="of the time of both that must be shared (default: 0.5)")
    rule.add_argument(
        "--tolerance", type=float, metavar="S", help="instead: seconds by which starts, and ends of short events, may differ"
    )
    group.add_argument("--segment", type=float, metavar="S", help="length of the segments that are compared too (default: 1)")


def _add_probe_arguments(group: Any) -> None:
    """The arguments of --probe; None where absent, so that --run can refuse them."""
    group.add_argument(
        "--probe-kinds", type=_names, metavar="A,B", help="logistic, ridge, knn, prototype (default: all), attentive"
    )
    group.add_argument(
        "--layers", type=_integers, metavar="I,J", help="layers to try (default: all); --layers=-1 is the last one"
    )
    group.add_argument("--poolings", type=_names, metavar="A,B", help="mean, max, first, last, std, cls (default: all it has)")
    group.add_argument(
        "--baseline", type=_names, metavar="A,B", help="fbank (mean and std of mel bands), random (same model, untrained)"
    )
    group.add_argument("--folds", type=int, metavar="K", help="number of folds, if the data has none (default: 5)")
    group.add_argument("--repeats", type=int, metavar="N", help="drawings of the folds (default: 1)")
    group.add_argument("--seed", type=int, help="of folds, intervals and random weights (default: 0)")
    group.add_argument("--token-layer", type=int, metavar="I", help="layer of the attentive probe (default: -1, the last)")
    group.add_argument("--unseen", action="store_const", const=True, help="leave out recordings that the run was trained on")
    group.add_argument("--cache", type=Path, metavar="DIR", help="folder of kept embeddings (default: with downloaded models)")
    for name, purpose in COLUMNS.items():
        group.add_argument(f"--{name}-column", metavar="NAME", help=f"column of the CSV with {purpose}")
    group.add_argument(
        "--window-seconds", type=float, metavar="S", help="longest window read at once (default: 10, or the run's)"
    )
    group.add_argument("--multi-label", action="store_const", const=True, help="rows may have several labels or none")


def _names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _integers(value: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is no list of whole numbers such as 0,6,12") from None


_integers.__name__ = "list of whole numbers"  # argparse puts the name into its message


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, evaluates and returns the exit status."""
    arguments = parser().parse_args(argv)
    command = "python -m beats_jax.evaluate " + shlex.join(argv)
    place = (arguments.coordinator, arguments.num_processes, arguments.process_id)
    if not arguments.run and place != (None, None, None):
        raise UserError("--coordinator, --num-processes and --process-id belong to --run; the others run as one process")
    if arguments.probe is not None:
        return _probe(arguments, command)
    if not arguments.detections and (given := [name for name in _EVENTS_ONLY if getattr(arguments, name) is not None]):
        raise UserError(f"--{given[0]} belongs to --detections")
    given = [name for name in _PROBE_ONLY if getattr(arguments, name) is not None]
    if given:
        raise UserError(f"--{given[0].replace('_', '-')} belongs to --probe; a run is measured with the settings of its training")
    if arguments.detections or arguments.reviewed:
        return _events(arguments, command)
    if arguments.compare:
        if arguments.data or arguments.strict:
            raise UserError("--compare reads the predictions of two runs; --data and --strict belong to --run")
        from beats_jax.pipelines.measuring.compare import compare_runs

        first, second = arguments.compare
        compare_runs(first, second, arguments.output, page=arguments.format, command=command)
        return 0
    start_processes(arguments)
    from beats_jax.pipelines.measuring.evaluate import evaluate_run

    evaluate_run(arguments.run, arguments.data, arguments.output, strict=arguments.strict, command=command, page=arguments.format)
    return 0


_SETTINGS = {
    "probe_kinds": "kinds",
    "layers": "layers",
    "poolings": "poolings",
    "baseline": "baselines",
    "folds": "folds",
    "repeats": "repeats",
    "seed": "seed",
    "token_layer": "token_layer",
    "unseen": "unseen",
    "cache": "cache",
}  # argument -> field of ProbeSettings
_READING = (*(f"{name}_column" for name in COLUMNS), "window_seconds", "multi_label")
_PROBE_ONLY = (*_SETTINGS, *_READING)
_EVENTS_ONLY = ("iou", "tolerance", "segment")


def _events(arguments: argparse.Namespace, command: str) -> int:
    if arguments.strict:
        raise UserError("--detections and --reviewed read tables only; --strict belongs to --run and --probe")
    if arguments.reviewed:
        if arguments.data:
            raise UserError("--reviewed holds the verdicts; --data belongs to the others")
        from beats_jax.pipelines.measuring.reviewed import write_precision_of

        write_precision_of(arguments.reviewed, arguments.output)
        return 0
    if arguments.data is None:
        raise UserError("--detections needs --data: annotations of the recordings that were searched")
    from beats_jax.evaluation.metrics.events import MatchRule
    from beats_jax.pipelines.measuring.detections import measure_detections

    rule = MatchRule(iou=0.5 if arguments.iou is None else arguments.iou)
    if arguments.tolerance is not None:
        rule = MatchRule("onset_offset", tolerance_seconds=arguments.tolerance)
    segment = 1.0 if arguments.segment is None else arguments.segment
    places = (arguments.detections, arguments.data, arguments.output)
    measure_detections(*places, rule, segment, page=arguments.format, command=command)
    return 0


def _probe(arguments: argparse.Namespace, command: str) -> int:
    if arguments.data is None:
        raise UserError("--probe needs --data: labelled recordings, as a folder of class folders or a CSV table")

    # LAPACK's threads spin beside those of XLA: with both a sweep took three times the CPU time (docs/benchmarks.md).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from beats_jax.pipelines.probing.probe import ProbeSettings, probe

    given = {field: getattr(arguments, name) for name, field in _SETTINGS.items() if getattr(arguments, name) is not None}
    reading = {name: getattr(arguments, name) for name in _READING if getattr(arguments, name) is not None}
    settings = ProbeSettings(arguments.probe, arguments.data, reading=reading, **given)
    probe(settings, arguments.output, strict=arguments.strict, command=command, page=arguments.format)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
