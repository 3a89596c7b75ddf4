"""`python -m beats_jax.evaluate`: measures a run or detections, compares runs, probes an encoder, or tries it on few examples."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from beats_jax.command_line import ArgumentParser, add_process_arguments, run_verb, start_processes
from beats_jax.errors import UserError
from beats_jax.parallel.launchers import require_alone
from beats_jax.pipelines.measuring.arguments import (
    add_encoder_arguments,
    add_episode_arguments,
    add_event_arguments,
    add_probe_arguments,
    refuse_others,
    settings_of,
)

EXAMPLES = """
examples:
  python -m beats_jax.evaluate --run runs/quickstart --output evaluation
  python -m beats_jax.evaluate --run runs/owls --data other_site/labels.csv --output other_site_evaluation --format md
  python -m beats_jax.evaluate --compare runs/owls runs/owls_lora --output owls_against_lora
  python -m beats_jax.evaluate --audit runs/owls_5_folds runs/owls_small_5_folds --output owls_labels
  python -m beats_jax.evaluate --probe BEATs_iter3_plus_AS2M --data owls/labels.csv --output owls_probe --baseline fbank,random
  python -m beats_jax.evaluate --probe runs/owls --data esc50 --output probe --probe-kinds logistic,attentive --folds 4
  python -m beats_jax.evaluate --episodes filterbank --data owls/labels.csv --n-way 5 --n-shot 5 --n-query 3 --output owls_few
  python -m beats_jax.evaluate --few-shot-detection filterbank --data annotated_nights --output five_shots
  python -m beats_jax.evaluate --detections owls_found --data annotations.csv --output owls_measured --iou 0.3
  python -m beats_jax.evaluate --reviewed owls_found/review.csv --output owls_precision

--data takes a folder with one folder per class, a folder in the ESC-50 layout, a CSV table with the run's own column names, or
events: .selections.txt of Raven, .labels.txt of Audacity; without it the run's own test recordings are measured again.
--compare needs no recordings: it reads predictions.csv.

--audit lists labels that trained models contradict, as a page to listen to and suspects.csv, which `review` opens. The runs are
cross-validations of the same rows (train --config.data.fold=all --config.data.num_folds=5), best of several kinds of model.

--detections compares events with annotations: tables of Raven, Audacity, Kaleidoscope, BirdNET, CSV or Parquet, or folders.
Recordings are matched by the end of their paths, and only annotated ones count. --reviewed makes the table of precision that
detect --precision-table takes.

A probe trains small classifiers on every layer and pooling of a frozen encoder. Nested folds choose among them and measure the
choice. Embeddings are kept on disk, so that a second probe of the same files takes seconds. With 50 labels begin here.

Episodes measure how well new classes are told apart by a few examples of each, without training: many small tasks are drawn, and
support and query are of different recordings. MODEL may also be filterbank (mel statistics),
covariance or modulation (without weights, too), or random:MODEL (untrained).
--few-shot-detection takes the first five events of each class in each annotated recording as known and searches the rest, as
DCASE task 5 does; --data takes its tables too.
"""
JOBS = ("run", "compare", "audit", "probe", "episodes", "few_shot_detection", "detections", "reviewed")  # one argument each


def parser() -> ArgumentParser:
    """The verb's arguments."""
    description = "Measure a run or detections, compare runs, or probe an encoder; writes metrics.json, tables, report.html."
    result = ArgumentParser("evaluate", description, EXAMPLES)
    what = result.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, metavar="DIR", help="folder of a finished run")
    what.add_argument(
        "--compare", type=Path, nargs=2, metavar=("RUN_A", "RUN_B"), help="two runs, or two outputs of evaluate, on the same rows"
    )
    what.add_argument("--audit", type=Path, nargs="+", metavar="RUN", help="cross-validated runs whose labels are to be checked")
    what.add_argument("--probe", metavar="MODEL", help="encoder to probe: a name of the registry, a file, a folder or a run")
    what.add_argument(
        "--episodes", metavar="MODEL", help="encoder to try on few-shot episodes: as --probe, or filterbank, covariance"
    )
    what.add_argument(
        "--few-shot-detection",
        metavar="MODEL",
        help="as detect --examples, by the first events of each class in annotated recordings",
    )
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
    add_event_arguments(result.add_argument_group("detections"))
    add_encoder_arguments(result.add_argument_group("probing and episodes"))
    add_probe_arguments(result.add_argument_group("probing"))
    add_episode_arguments(result.add_argument_group("episodes"))
    add_process_arguments(result)
    return result


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, evaluates and returns the exit status."""
    arguments = parser().parse_args(argv)
    command = "python -m beats_jax.evaluate " + shlex.join(argv)
    place = (arguments.coordinator, arguments.num_processes, arguments.process_id)
    if not arguments.run and place != (None, None, None):
        raise UserError("--coordinator, --num-processes and --process-id belong to --run; the others run as one process")
    if not arguments.run:
        require_alone("evaluate without --run", os.environ)
    job = next(name for name in JOBS if getattr(arguments, name))
    refuse_others(arguments, job)
    if job in _WITH_DATA:
        return _with_data(arguments, job, command)
    if arguments.detections or arguments.reviewed:
        return _events(arguments, command)
    if arguments.compare:
        if arguments.data or arguments.strict:
            raise UserError("--compare reads the predictions of two runs; --data and --strict belong to --run")
        from beats_jax.pipelines.measuring.compare import compare_runs

        first, second = arguments.compare
        compare_runs(first, second, arguments.output, page=arguments.format, command=command)
        return 0
    if arguments.audit:
        if arguments.data or arguments.strict:
            raise UserError("--audit reads the predictions of runs; --data and --strict belong to --run")
        from beats_jax.pipelines.measuring.audit import audit_labels

        audit_labels(arguments.audit, arguments.output, page=arguments.format, command=command)
        return 0
    start_processes(arguments)
    from beats_jax.pipelines.measuring.evaluate import evaluate_run

    evaluate_run(arguments.run, arguments.data, arguments.output, strict=arguments.strict, command=command, page=arguments.format)
    return 0


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


_WITH_DATA = {
    "probe": "labelled recordings, as a folder of class folders or a CSV table",
    "episodes": "labelled recordings, as a folder of class folders or a table",
    "few_shot_detection": "annotations of recordings, as a table of events or a folder of tables",
}


def _with_data(arguments: argparse.Namespace, job: str, command: str) -> int:
    """The jobs that try a model on data."""
    if arguments.data is None:
        raise UserError(f"--{job.replace('_', '-')} needs --data: {_WITH_DATA[job]}")
    # LAPACK's threads spin beside those of XLA: with both a sweep took three times the CPU time (docs/benchmarks.md).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    given = settings_of(arguments, job)
    place = (getattr(arguments, job), arguments.data)
    options = {"strict": arguments.strict, "command": command, "page": arguments.format}
    if job == "probe":
        from beats_jax.pipelines.probing.probe import ProbeSettings, probe

        probe(ProbeSettings(*place, **given), arguments.output, **options)
    elif job == "episodes":
        from beats_jax.pipelines.measuring.episodes import EpisodeSettings, evaluate_episodes

        evaluate_episodes(EpisodeSettings(*place, **given), arguments.output, **options)
    else:
        from beats_jax.pipelines.measuring.few_shot_detection import FewShotSettings, measure_few_shot_detection

        measure_few_shot_detection(FewShotSettings(*place, **given), arguments.output, **options)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
