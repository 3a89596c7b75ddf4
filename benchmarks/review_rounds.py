"""What a review is worth: rounds of detect → review by an oracle → train, by the order in which clips are reviewed.

    python benchmarks/review_rounds.py ../shared/data STUDY --seeds 8
    python benchmarks/review_rounds.py ../shared/data STUDY --verbs --seeds 1
    python benchmarks/review_rounds.py ../shared/data STUDY --verbs --browser --seeds 1 --orders uncertain

Recordings are made: rare calls of one species, about as loud as the noise, among more frequent calls of others, over field noise
(soundscapes of the data folder; training and test have different ones). The first detector knows ten loud calls and noise.
Without --verbs detectors are logistic regressions on frozen embeddings (mean and deviation of mel bands), so that many seeds
take minutes; with it everything goes through `train` (a small BEATs), `detect` and the reviewing library, as a user does it; with
--browser the oracle presses the keys of the page, which needs beats-jax[ui], playwright and chromium.
Printed: average precision and F1 of test windows after every round, with 95 % intervals over seeds (bootstrap), beside random.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RATE, WINDOW, HOP = 16_000, 2.0, 1.0
TARGET, OTHERS = "two_note", ("warble", "harmonic", "downsweep", "hoots", "trill")
CALLS_A_MINUTE, OTHERS_A_MINUTE = 2.0, 6.0
SNR_DB = (-8.0, 8.0)
POOL, TEST, SECONDS = 24, 16, 60
KNOWN_CALLS, KNOWN_NOISE, KNOWN_SNR_DB = 10, 20, (12.0, 20.0)
ORDERS = ("strongest", "stratified", "uncertain", "diverse", "random")
ROUNDS, CLIPS = 3, 20


@dataclass(frozen=True)
class Recordings:
    """Folders `known` (clips of 2 s, known.csv), `pool` and `test` (recordings), and the true calls by file."""

    folder: Path
    calls: dict[str, list[tuple[float, float]]]

    def truth(self, file: str, start: float, end: float) -> str:
        """What an expert says of a window: yes, no, or unsure where a call only reaches into it."""
        found = "no"
        for begin, stop in self.calls.get(Path(file).name, []):
            shared = min(end, stop) - max(start, begin)
            if shared >= 0.5 * min(stop - begin, end - start):
                return "yes"
            if shared > 0:
                found = "unsure"
        return found


def make_recordings(data: Path, folder: Path, seed: int) -> Recordings:
    """Writes the recordings of a seed, or finds them."""
    calls_file = folder / "calls.json"
    if calls_file.is_file():
        found = json.loads(calls_file.read_text())
        return Recordings(folder, {name: [(start, end) for start, end in times] for name, times in found.items()})
    from beats_jax.audio.io import read, write_wav

    draw = np.random.default_rng(seed)
    sources = sorted((data / "soundscapes").glob("*.flac"))
    noises = [read(source, sample_rate=RATE) for source in sources]
    kept = draw.permutation(len(noises))
    parts = {"known": kept[:2], "pool": kept[2 : len(kept) // 2], "test": kept[len(kept) // 2 :]}
    calls: dict[str, list[tuple[float, float]]] = {}
    for part, count in (("pool", POOL), ("test", TEST)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            name = f"{part}_{number:02d}.wav"
            sound, calls[name] = recording(draw, [noises[k] for k in parts[part]])
            write_wav(folder / part / name, sound, RATE)
    (folder / "known").mkdir(exist_ok=True)
    rows = [("filename", "label")]
    for number in range(KNOWN_CALLS + KNOWN_NOISE):
        noise = level(draw.choice([noises[k] for k in parts["known"]]))
        begin = draw.integers(0, len(noise) - round(WINDOW * RATE))
        clip = noise[begin : begin + round(WINDOW * RATE)].copy()
        if number < KNOWN_CALLS:
            add_call(draw, clip, TARGET, draw.uniform(0.0, 0.6), draw.uniform(*KNOWN_SNR_DB))
        rows.append((f"known_{number:02d}.wav", TARGET if number < KNOWN_CALLS else "background"))
        write_wav(folder / "known" / rows[-1][0], fitted(clip), RATE)
    with (folder / "known" / "known.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    calls_file.write_text(json.dumps(calls))
    return Recordings(folder, calls)


def recording(draw: np.random.Generator, noises: list[np.ndarray]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """A minute of field noise with calls, and the times of those of the species."""
    chosen = draw.choice(len(noises), SECONDS // 10, replace=False)
    sound = np.concatenate([level(noises[k]) * 10 ** (draw.uniform(-3, 3) / 20) for k in chosen])[: SECONDS * RATE]
    for _ in range(draw.poisson(OTHERS_A_MINUTE)):
        add_call(draw, sound, str(draw.choice(OTHERS)), draw.uniform(0, SECONDS - 2), draw.uniform(*SNR_DB))
    times = []
    for _ in range(draw.poisson(CALLS_A_MINUTE)):
        times.append(add_call(draw, sound, TARGET, draw.uniform(0, SECONDS - 2), draw.uniform(*SNR_DB)))
    return fitted(sound), sorted(times)


def level(noise: np.ndarray) -> np.ndarray:
    """Noise at a root mean square of 0.02."""
    return noise * (0.02 / max(float(np.sqrt(np.mean(np.square(noise)))), 1e-9))


def add_call(draw: np.random.Generator, sound: np.ndarray, name: str, start: float, snr_db: float) -> tuple[float, float]:
    """Adds a call to a sound; returns its start and end in seconds."""
    from beats_jax.audio.synth import CALLS

    call = CALLS[name](draw, draw.uniform(0.5, 1.2), RATE)
    begin = round(start * RATE)
    part = sound[begin : begin + len(call)]
    power = float(np.mean(np.square(part))) / max(float(np.mean(np.square(call))), 1e-12)
    part += (call[: len(part)] * np.sqrt(power * 10 ** (snr_db / 10))).astype(sound.dtype)
    return start, start + len(part) / RATE


def fitted(sound: np.ndarray) -> np.ndarray:
    """float32 within +-0.95."""
    return (sound * min(1.0, 0.95 / max(float(np.abs(sound).max()), 1e-9))).astype(np.float32)


def figures(truth: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """(average precision, F1 at 0.5) of windows; truth: yes, no or unsure, which are not counted."""
    from sklearn.metrics import average_precision_score, f1_score

    sure = truth != "unsure"
    return (
        float(average_precision_score(truth[sure] == "yes", scores[sure])),
        float(f1_score(truth[sure] == "yes", scores[sure] >= 0.5)),
    )


def review_round(made: Recordings, candidates, table, order: str, vectors, seed: int) -> None:
    """An oracle decides on the next clips of the queue."""
    from beats_jax.datasets.tables.reviews import standing
    from beats_jax.pipelines.reviewing.queue import decide, queue_of

    queue = queue_of(candidates, TARGET, order, standing(table.reviews()), vectors=vectors, seed=seed)
    rows = [int(row) for position, row in enumerate(queue.rows) if queue.review(position) is None][:CLIPS]
    events = candidates.events
    for row in rows:
        verdict = made.truth(str(events.files[row]), float(events.starts[row]), float(events.ends[row]))
        decide(table, candidates, row, verdict, "oracle")


def browser_round(made: Recordings, detections: Path, table: Path, order: str, seed: int) -> None:
    """The same by keys: the oracle reads the name under the marked clip."""
    from playwright.sync_api import sync_playwright

    what = ["--detections", str(detections), "--of", "windows", "--label", TARGET, "--order", order, "--seed", str(seed)]
    command = [sys.executable, "-m", "beats_jax.review", *what, "--review", str(table), "--reviewer", "oracle", "--port", "8599"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = chromium.new_page()
            page.set_default_timeout(120_000)
            wait_for_page(page, "http://127.0.0.1:8599")
            for _ in range(CLIPS):
                mark = page.evaluate("window.beatsJaxReview.mark")
                tile = page.locator(f".st-key-tile_{mark}")
                found = re.search(r"(\w+\.wav) · ([\d.]+)-([\d.]+) s", tile.inner_text())
                assert found, tile.inner_text()
                page.keyboard.press(made.truth(found[1], float(found[2]), float(found[3]))[0])
                page.wait_for_function(f"() => window.beatsJaxReview.mark !== {mark} && !window.beatsJaxReview.waiting")
                page.wait_for_function("() => document.querySelector(`.st-key-tile_${window.beatsJaxReview.mark}`)")
            page.wait_for_function("() => window.beatsJaxReview.seen === window.beatsJaxReview.number")
            chromium.close()
    finally:
        server.terminate()
        server.wait()


def wait_for_page(page, address: str) -> None:
    """Opens the page once its server answers."""
    for _ in range(120):
        try:
            page.goto(address)
            break
        except Exception:  # noqa: BLE001  Playwright has no error of its own for a server that is not there yet
            time.sleep(1)
    page.wait_for_function("() => window.beatsJaxReview && document.querySelector(`.st-key-tile_${window.beatsJaxReview.mark}`)")


class Probe:
    """Logistic regressions on frozen embeddings of all windows of a seed."""

    def __init__(self, made: Recordings) -> None:
        from beats_jax.inference.search.embeddings import open_embeddings
        from beats_jax.pipelines.embed import EmbedSettings, embed

        self.folder = made.folder / "embedded"
        inputs = tuple(str(made.folder / part) for part in ("known", "pool", "test"))
        settings = EmbedSettings(inputs, window_seconds=WINDOW, hop_seconds=HOP)
        embed(settings, self.folder, strict=True, command="review_rounds")
        table = open_embeddings(self.folder)
        places = table.places(np.arange(len(table))).to_pandas()
        vectors = np.concatenate(list(table.read_vectors(table.require_column(None))))
        self.vectors = (vectors - vectors.mean(axis=0)) / np.maximum(vectors.std(axis=0), 1e-6)
        self.files = [str(name) for name in places["file"]]
        self.starts, self.ends = places["start"].to_numpy(), places["end"].to_numpy()
        windows = zip(self.files, self.starts.tolist(), strict=True)
        self.row_of = {(Path(name).name, round(start, 3)): row for row, (name, start) in enumerate(windows)}
        self.part = np.array([Path(name).parent.name for name in self.files])
        with (made.folder / "known" / "known.csv").open(newline="") as file:
            known = list(csv.DictReader(file))
        self.known = [(self.row_of[row["filename"], 0.0], row["label"] == TARGET) for row in known]

    def scores(self, rows: list[tuple[int, bool]]) -> np.ndarray:
        """Probability of the call in every window, of a detector that learnt these rows and the known clips."""
        from sklearn.linear_model import LogisticRegression

        places, labels = zip(*self.known, *rows, strict=True)
        model = LogisticRegression(C=0.02, class_weight="balanced", max_iter=1000)
        return model.fit(self.vectors[list(places)], list(labels)).predict_proba(self.vectors)[:, 1]


def probe_rounds(made: Recordings, seed: int) -> Iterator[tuple[str, int, float, float]]:
    """(order, clips, average precision, F1) of frozen embeddings."""
    from beats_jax.config import DataConfig
    from beats_jax.datasets.sources.review import reviewed_clips
    from beats_jax.datasets.tables.events import Events
    from beats_jax.pipelines.reviewing.candidates import Candidates
    from beats_jax.pipelines.reviewing.review_file import ReviewFile

    probe = Probe(made)
    pool, test = (np.flatnonzero(probe.part == part) for part in ("pool", "test"))
    truth = np.array([made.truth(probe.files[row], probe.starts[row], probe.ends[row]) for row in test])
    files = [probe.files[row] for row in pool]
    for order in ORDERS:
        table = ReviewFile(made.folder / "reviews" / order / "review.csv")
        table.path.unlink(missing_ok=True)
        learnt: list[tuple[int, bool]] = []
        for number in range(ROUNDS + 1):
            scores = probe.scores(learnt)
            yield order, number * CLIPS, *figures(truth, scores[test])
            if number == ROUNDS:
                break
            events = Events.from_columns(files, probe.starts[pool], probe.ends[pool], [TARGET] * len(pool), scores=scores[pool])
            review_round(made, Candidates(events, {TARGET: 0.5}), table, order, probe.vectors[pool], 1000 * seed + number)
            rows = reviewed_clips([str(table.path)], DataConfig(source="review", metadata_file=str(table.path)))
            places = zip(rows.files.tolist(), rows.starts.tolist(), strict=True)
            learnt = [
                (probe.row_of[Path(file).name, round(start, 3)], rows.labels[row] == (TARGET,))
                for row, (file, start) in enumerate(places)
            ]


def verb(*arguments: str) -> None:
    """Runs a verb of beats_jax."""
    print("$ python -m beats_jax." + " ".join(arguments), flush=True)
    subprocess.run([sys.executable, "-m", f"beats_jax.{arguments[0]}", *arguments[1:]], check=True, stdout=subprocess.DEVNULL)


def verb_rounds(
    made: Recordings, seed: int, orders: list[str], epochs: float, *, browser: bool
) -> Iterator[tuple[str, int, float, float]]:
    """The same by `train` and `detect`: a small BEATs from scratch."""
    from beats_jax.pipelines.detecting.scores import SCORES, scored_recordings
    from beats_jax.pipelines.reviewing.candidates import open_candidates
    from beats_jax.pipelines.reviewing.review_file import ReviewFile

    for order in orders:
        reviewed: list[str] = []
        for number in range(ROUNDS + 1):
            folder = made.folder / "verbs" / (f"{order}_by_keys" if browser else order)
            place = (folder if number else made.folder / "verbs" / "start") / f"round{number}"
            run = place / "run"
            if not (run / "metrics.json").is_file():
                verb(*train_arguments(made, run, seed, epochs, reviewed))
            for part in ("pool", "test"):
                output = ("--output", str(place / part), "--hop", str(HOP), "--scores-only")
                verb("detect", "--input", str(made.folder / part), "--model", str(run), *output)
            truth, scores = [], []
            for found in scored_recordings(place / "test" / SCORES, [TARGET]):
                truth += [made.truth(found.file, *times) for times in zip(found.starts, found.ends, strict=True)]
                scores += found.scores[:, 0].tolist()
            yield order, number * CLIPS, *figures(np.array(truth), np.array(scores))
            if number == ROUNDS:
                break
            table = ReviewFile(folder / "review.csv")
            if number == 0:
                table.path.unlink(missing_ok=True)
            if browser:
                browser_round(made, place / "pool", table.path, order, 1000 * seed + number)
            else:
                candidates = open_candidates(place / "pool", kind="windows", labels=[TARGET])
                review_round(made, candidates, table, order, None, 1000 * seed + number)
            reviewed = [str(table.path)]


def train_arguments(made: Recordings, run: Path, seed: int, epochs: float, reviewed: list[str]) -> list[str]:
    """A run that learns the known clips, and those that were reviewed."""
    settings = {
        "data.source": "csv",
        "data.metadata_file": made.folder / "known" / "known.csv",
        "data.train_split": 0.8,
        "data.val_split": 0.2,
        "data.test_split": 0.0,
        "data.balanced": True,
        "training.max_epochs": epochs,
        "training.evaluate_every_epochs": epochs,
        "training.seed": seed,
        "evaluation.bootstrap_resamples": 0,
    }
    if reviewed:
        settings["data.reviewed"] = tuple(reviewed)
    changes = [f"--config.{name}={value}" for name, value in settings.items()]
    return ["train", "--config", "quickstart", "--workdir", str(run), *changes]


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean over seeds, by bootstrap."""
    draws = np.random.default_rng(0).integers(0, len(values), (10_000, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def report(results: list[tuple[int, str, int, float, float]]) -> None:
    """Prints the means over seeds, and the differences from random review."""
    by = {(order, clips, seed): (ap, f1) for seed, order, clips, ap, f1 in results}
    seeds = sorted({seed for seed, *_ in results})
    orders = [order for order in ORDERS if any(key[0] == order for key in by)]
    print("| order | clips | average precision | F1 | average precision, less random |")
    print("|---|---|---|---|---|")
    for order in orders:
        for clips in sorted({key[1] for key in by}):
            values = np.array([by[order, clips, seed] for seed in seeds])
            other = np.array([by.get(("random", clips, seed), (np.nan, np.nan)) for seed in seeds])
            cells = []
            for column in (values[:, 0], values[:, 1], values[:, 0] - other[:, 0]):
                low, high = interval(column)
                cells.append(f"{column.mean():.3f} [{low:.3f}, {high:.3f}]")
            print(f"| {order} | {clips} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with soundscapes/")
    parser.add_argument("study", type=Path, help="folder of recordings and tables")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--verbs", action="store_true", help="train and detect as a user does")
    parser.add_argument("--browser", action="store_true", help="with --verbs: review by the keys of the page")
    choices = [order for order in ORDERS if order != "diverse"]
    parser.add_argument("--orders", nargs="+", default=["uncertain", "random"], choices=choices, help="of --verbs")
    parser.add_argument("--epochs", type=float, default=60.0, help="of each training of --verbs")
    given = parser.parse_args()
    results = []
    for seed in range(given.seeds):
        made = make_recordings(given.data, given.study / f"seed{seed}", seed)
        found = (
            verb_rounds(made, seed, given.orders, given.epochs, browser=given.browser)
            if given.verbs
            else probe_rounds(made, seed)
        )
        for row in found:
            print(seed, *row[:2], *(f"{value:.3f}" for value in row[2:]), flush=True)
            results.append((seed, *row))
    report(results)


if __name__ == "__main__":
    main()
