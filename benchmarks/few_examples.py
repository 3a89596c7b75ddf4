"""Detection from five examples: ours against mel statistics, template matching by scikit-maad, and encoders.

    python benchmarks/few_examples.py --data DATA --work FOLDER [--maad PYTHON_OF_ITS_ENVIRONMENT] [--seconds 600]

Recordings: generated ones (`few_examples_data`), held-out songs of `finch`, and `spinetail`, whose first five labels are the
examples and the rest the truth. An event is found if it shares 0.3 of the time of both with a detection of its label (as in DCASE
task 5), one to one. `F` is at each method's own threshold, which the normal tail of its background scores and its examples give;
`best F` at the threshold that is best for the truth, which nobody knows. Intervals: 95 %, stretches of 10 s drawn 2,000 times.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from few_examples_data import Problem, generated

from beats_jax.config import AudioConfig, BEATsConfig
from beats_jax.datasets.tables.events import Events
from beats_jax.evaluation.metrics.events import MatchRule, match_events, precision_recall
from beats_jax.inference.events import EventRule, find_events
from beats_jax.inference.grid import Grid
from beats_jax.inference.job import iterate_rows
from beats_jax.inference.model import Model
from beats_jax.inference.program import FilterbankProgram
from beats_jax.inference.reduce import EachWindow, pool_window
from beats_jax.inference.stream import Recordings
from beats_jax.pipelines.detecting.background import false_alarms
from beats_jax.pipelines.detecting.detector import Detector
from beats_jax.pipelines.detecting.examples import Example, find_examples
from beats_jax.pipelines.detecting.few_embeddings import embedding_detector, fit_directions
from beats_jax.pipelines.detecting.few_examples import fit_class, fit_templates, lengths_of, template_detector
from beats_jax.pipelines.probing.encoders import randomise
from beats_jax.weights.bundle import Bundle

RULE = MatchRule(iou=0.3)
PER_HOUR = 20.0
BLOCK_SECONDS, DRAWS = 10.0, 2000
LOWEST = -1e6  # every peak is a detection, for the curve over thresholds


@dataclass(frozen=True)
class Scores:
    """Scores of one label in one recording: middles and lengths of its windows, and the threshold of the method."""

    middles: np.ndarray
    scores: np.ndarray
    seconds: float
    threshold: float


Found = dict[str, dict[str, Scores]]  # file → label → scores
Method = Callable[[Sequence[Example], Sequence[str]], Found]


def templates(examples: Sequence[Example], files: Sequence[str]) -> Found:
    return scored(template_detector(fit_templates(examples, files, per_hour=PER_HOUR)), files, 256)


def directions(model: Model) -> Method:
    def method(examples: Sequence[Example], files: Sequence[str]) -> Found:
        return scored(embedding_detector(fit_directions(model, examples, files, per_hour=PER_HOUR), model), files, 64)

    return method


def scored(detector: Detector, files: Sequence[str], batch_size: int) -> Found:
    """The logits of a detector, whose threshold is 0."""
    found: Found = {}
    rows = iterate_rows(detector.program, Recordings.of_files(files), detector.grid, EachWindow(), batch_size=batch_size)
    for row in rows:
        middles = np.array([window.start + window.seconds / 2 for window in row.value])
        logits = np.stack([window.values["logits"] for window in row.value])
        lengths = enumerate(detector.seconds.items())
        found[files[row.row]] = {label: Scores(middles, logits[:, place], length, 0.0) for place, (label, length) in lengths}
    return found


def mel_statistics(examples: Sequence[Example], files: Sequence[str]) -> Found:
    """Cosine of mean and deviation of the mel bands, standardised by the recordings, with the examples' mean."""
    program = FilterbankProgram(AudioConfig())
    found: Found = {file: {} for file in files}
    for label, length in lengths_of(examples).items():
        grid = Grid(max(length, 0.035), max(length, 0.035) / 4)
        windows = vectors_of(program, Recordings.of_files(files), grid)
        own = [one for one in examples if one.label == label]
        places = Recordings(
            np.array([str(one.file) for one in own], np.dtypes.StringDType()),
            np.array([one.start for one in own]),
            np.array([one.end for one in own]),
        )
        clips = np.stack([vectors.mean(axis=0) for _, vectors in vectors_of(program, places, Grid(30.0)).values()])
        everything = np.concatenate([vectors for _, vectors in windows.values()])
        mean, deviation = everything.mean(axis=0), everything.std(axis=0) + 1e-6
        unit = [unit_rows((vectors - mean) / deviation) for vectors in (everything, clips)]
        prototype = unit_rows(unit[1].mean(axis=0, keepdims=True))
        left_out = [
            float((unit[1][k] @ unit_rows(np.delete(unit[1], k, 0).mean(0, keepdims=True)).T).item()) for k in range(len(own))
        ]
        per_hour = 3600 / (grid.hop_seconds or 1)
        fit = fit_class(label, tuple(left_out), (unit[0] @ prototype.T)[:, 0], per_hour, PER_HOUR)
        for row, (middles, vectors) in windows.items():
            scores = (unit_rows((vectors - mean) / deviation) @ prototype.T)[:, 0]
            found[files[row]][label] = Scores(middles, scores, length, fit.threshold)
    return found


def vectors_of(program: FilterbankProgram, recordings: Recordings, grid: Grid) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """row → middles [W] and mel statistics [W, 256]."""
    found = {}
    for row in iterate_rows(program, recordings, grid, EachWindow(), batch_size=256, on_error="raise"):
        middles = np.array([window.start + window.seconds / 2 for window in row.value])
        found[row.row] = middles, np.stack([pool_window(one.values, ("mean", "std"))[0].reshape(-1) for one in row.value])
    return dict(sorted(found.items()))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def maad(python: str, work: Path) -> Method:
    """scikit-maad's template matching; its threshold has no default: that of the normal tail of its own scores."""

    def method(examples: Sequence[Example], files: Sequence[str]) -> Found:
        lengths = lengths_of(examples)
        wanted = {
            label: [[str(one.file), one.start, one.end] for one in examples if one.label == label] for label in lengths
        }  # fmt: skip
        request, output = work / "maad.json", work / "maad.npz"
        request.write_text(json.dumps({"recordings": list(files), "templates": wanted}))
        subprocess.run([python, str(Path(__file__).with_name("few_examples_maad.py")), str(request), str(output)], check=True)
        arrays = np.load(output)
        found: Found = {}
        for place, file in enumerate(files):
            found[file] = {}
            for label, length in lengths.items():
                middles, scores = arrays[f"t:{place}:{label}"], arrays[f"s:{place}:{label}"]
                alarms = false_alarms(scores, 3600 / float(middles[1] - middles[0]))
                found[file][label] = Scores(middles, scores, length, alarms.score_at(PER_HOUR))
        return found

    return method


def peaks(found: Found, *, all_of_them: bool) -> Events:
    """Detections: peaks above the method's threshold, or all."""
    parts = []
    for file, labels in found.items():
        for label, one in labels.items():
            half, threshold = one.seconds / 2, LOWEST if all_of_them else one.threshold
            rule, place = EventRule(extent="peak"), (one.middles - half, one.middles + half)
            parts.append(find_events(file, *place, one.scores[:, None], [label], np.array([threshold]), rule))
    return Events.concatenate(parts)


def figures(problem: Problem, found: Found, rng: np.random.Generator) -> dict[str, float]:
    """Precision, recall, F with its interval at the own threshold; best F over thresholds (one a label) and average precision."""
    truth, detections = problem.truth, peaks(found, all_of_them=False)
    matched = match_events(truth, detections, RULE)
    hit = np.zeros(len(truth), bool)
    hit[matched[matched >= 0]] = True
    both = Events.concatenate([truth, detections])
    blocks = sorted(set(zip(both.files, both.starts // BLOCK_SECONDS, strict=True)))
    place = {block: number for number, block in enumerate(blocks)}
    counts = np.zeros((len(blocks), 3))
    for file, start, good in zip(truth.files, truth.starts, hit, strict=True):
        counts[place[file, start // BLOCK_SECONDS], 0 if good else 2] += 1
    for file, start, row in zip(detections.files, detections.starts, matched, strict=True):
        counts[place[file, start // BLOCK_SECONDS], 1] += row < 0
    draws = counts[rng.integers(len(blocks), size=(DRAWS, len(blocks)))].sum(axis=1)
    low, high = np.quantile(f_of(draws), (0.025, 0.975))
    hits, false, missed = counts.sum(axis=0)
    best, average = [], []
    every = peaks(found, all_of_them=True)
    for label in sorted(set(truth.labels.tolist())):
        curve = precision_recall(truth.take(truth.labels == label), every.take(every.labels == label), RULE)
        best.append(np.max(2 * curve.precision * curve.recall / np.maximum(curve.precision + curve.recall, 1e-9)))
        average.append(curve.average_precision)
    return {
        "precision": hits / max(hits + false, 1), "recall": hits / (hits + missed), "F": float(f_of(counts.sum(axis=0))),
        "low": low, "high": high, "best F": float(np.mean(best)), "AP": float(np.mean(average)),
    }  # fmt: skip


def f_of(counts: np.ndarray) -> np.ndarray:
    """F of (hits, false, missed) [..., 3]."""
    return 2 * counts[..., 0] / np.maximum(2 * counts[..., 0] + counts[..., 1] + counts[..., 2], 1)


def finch(data: Path) -> tuple[Problem, list[Example]]:
    """Four notes: five examples each from the first three songs, the next twelve songs are searched."""
    import pandas as pd

    table = pd.read_csv(data / "finch/annotations.csv", dtype={"label": str})
    table["path"] = [str(data / "finch/audio" / file) for file in table.file]
    files = sorted(table.path.unique(), key=lambda path: int(Path(path).stem))
    notes = ("0", "3", "5", "6")
    known = table[table.path.isin(files[:3])]
    rows = pd.concat([known[known.label == note].sample(5, random_state=0) for note in notes])
    examples = [Example(Path(row.path), row.start, row.end, row.label) for row in rows.itertuples()]
    searched = table[table.path.isin(files[3:15]) & table.label.isin(notes)]
    truth = Events.from_columns(searched.path.tolist(), searched.start.tolist(), searched.end.tolist(), searched.label.tolist())
    return Problem("finch", [Path(file) for file in files[3:15]], truth, Path()), examples


def spinetail(data: Path) -> tuple[Problem, list[Example]]:
    """The first five `SP` are examples; the others of the same recording are the truth. The part before them does not count."""
    sound = data / "spinetail/spinetail.flac"
    rows = [line.split() for line in (data / "spinetail/spinetail.audacity.txt").read_text().splitlines() if line[0] != "\\"]
    times = [(float(start), float(end)) for start, end, label in rows if label == "SP"]
    examples = [Example(sound, start, end, "SP") for start, end in times[:5]]
    rest = times[5:]
    truth = Events.from_columns([str(sound)] * len(rest), [a for a, _ in rest], [b for _, b in rest], ["SP"] * len(rest))
    return Problem("spinetail", [sound], truth, Path()), examples


def after(found: Found, second: float) -> Found:
    """Only windows whose middle lies behind a time."""
    return {
        file: {
            label: replace(one, middles=one.middles[one.middles > second], scores=one.scores[one.middles > second])
            for label, one in labels.items()
        }
        for file, labels in found.items()
    }


def run(problems: Mapping[str, tuple[Problem, list[Example]]], methods: Mapping[str, Method]) -> None:
    print(
        "| recordings | method | precision | recall | F [95 %] | best F | AP | s |\n|---|---|---|---|---|---|---|---|", flush=True
    )
    for name, (problem, examples) in problems.items():
        for title, method in methods.items():
            start = time.perf_counter()
            found = method(examples, [str(path) for path in problem.recordings])
            seconds = time.perf_counter() - start
            if name == "spinetail":
                found = after(found, max(example.end for example in examples))
            one = figures(problem, found, np.random.default_rng(0))
            interval = f"{one['F']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
            cells = f"{one['precision']:.2f} | {one['recall']:.2f} | {interval} | {one['best F']:.2f} | {one['AP']:.2f}"
            print(f"| {name} | {title} | {cells} | {seconds:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--maad", help="python of an environment with scikit-maad and soundfile")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--encoder", nargs="*", default=[], help="models for a row of their own")
    parser.add_argument("--only", default="", help="methods whose names begin so")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    mixtures = generated(arguments.data, arguments.work, (12.0, 6.0, 0.0), arguments.seconds)
    examples = find_examples(arguments.work / "examples")
    problems = {problem.name: (problem, examples) for problem in mixtures}
    problems |= {"finch": finch(arguments.data), "spinetail": spinetail(arguments.data)}
    tiny = BEATsConfig(
        encoder_layers=4, encoder_embed_dim=192, encoder_ffn_embed_dim=768, encoder_attention_heads=4, embed_dim=128
    )
    untrained = randomise(Model(Bundle({}, tiny, AudioConfig(), (), False, "")))
    methods: dict[str, Method] = {"ours (templates)": templates, "mel statistics, mean": mel_statistics}
    if arguments.maad:
        methods["scikit-maad"] = maad(arguments.maad, arguments.work)
    methods["untrained BEATs, directions"] = directions(untrained)
    from beats_jax.inference.model import load

    methods |= {f"{name}, directions": directions(load(name)) for name in arguments.encoder}
    run(problems, {name: method for name, method in methods.items() if name.startswith(arguments.only)})


if __name__ == "__main__":
    main()
