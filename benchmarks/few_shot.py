"""Few-shot figures of docs/results.md: 5-way, 5-shot and 1-shot, on classes that no training has met; one table, resumable.

    python benchmarks/few_shot.py --data SHARED_DATA --output DIR [--parts vectors,trained] [--sets birds,esc10,finch]
    python benchmarks/few_shot.py ... --parts birdnet --birdnet-python OTHER_ENV/bin/python --birdnet MODEL.tflite
    python benchmarks/few_shot.py --output DIR --parts table

SHARED_DATA holds `birds/labels.csv` (species), `esc10` (ESC-50 layout), `finch/annotations.csv` (notes), `soundscapes`. Half of
the classes of birds and esc10 train and half measure, drawn five times by data.split_seed; the notes of the finch, one bird, only
measure, by the networks of birds' first draw. 600 episodes a draw, support and query of different recordings.
Every figure lies in DIR/figures and every run in DIR/runs; what is there is not computed again, and `table` prints DIR/table.md.
BirdNET: OTHER_ENV has ai-edge-litert, numpy, soundfile and soxr; it knows these birds, so it is no figure of unseen classes.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DRAWS, EPISODES, SHOTS = 5, 600, (5, 1)
VECTORS = ("filterbank", "modulation", "covariance")
METHODS = ("prototypical", "simpleshot", "nearest-mean", "logistic", "ridge", "laplacian")
OF_NETWORKS = ("prototypical", "simpleshot", "ridge")
# Small enough for a processor: 64 bands, 50 frames a second, 0.1 M parameters.
SMALL = {
    "audio.filterbank.num_mel_bins": 64,
    "audio.filterbank.frame_shift_ms": 20.0,
    "model.widths": "(16, 32, 64, 96)",
    "data.num_workers": 1,
    "training.ema_decay": 0.95,
}
AUGMENTED = {
    "objective.augment.noise_probability": 0.5,
    "objective.augment.background_probability": 0.5,
    "objective.augment.frequency_shift_bins": 2,
}
CLASSICAL = {"objective.name": "supervised", "data.batch_size": 32, "objective.label_smoothing": 0.1, **AUGMENTED}
EPISODIC = {"objective.episodes_per_step": 1, "objective.n_query": 2, "objective.episodes_per_epoch": 25, **AUGMENTED}
# BEATs' form in the size of configs/small.py: contrastive learning trains no network with batch statistics.
TRANSFORMER = {
    "model.family": "beats",
    "model.checkpoint": "none",
    "model.embed_dim": 128,
    "model.encoder_embed_dim": 128,
    "model.encoder_ffn_embed_dim": 512,
    "model.encoder_layers": 4,
    "model.encoder_attention_heads": 4,
    "model.conv_pos": 32,
    "model.conv_pos_groups": 4,
}
TRAINED = {"classical": CLASSICAL, "episodic": EPISODIC}
STEPS = {"classical": 150, "episodic": 80, "self-supervised": 150}  # minutes each on one core


@dataclass(frozen=True)
class Set:
    """Labelled rows. `reading`: columns of the table as arguments of `evaluate`; `train`: as settings of `train`."""

    name: str
    table: Path
    label: str
    audio: str
    folder: str  # of the recordings, below the table's folder
    query: int
    draws: int
    times: tuple[str, ...] = ()


def sets(data: Path) -> dict[str, Set]:
    """The three sets by name."""
    found = (
        Set("birds", data / "birds/labels.csv", "species", "filename", "audio", 2, DRAWS),
        Set("esc10", data / "esc10/meta/esc50.csv", "category", "filename", "../audio", 5, DRAWS),
        Set("finch", data / "finch/annotations.csv", "label", "file", "audio", 5, 1, ("start", "end")),
    )
    return {one.name: one for one in found}


def class_table(one: Set, draw: int, output: Path) -> Path:
    """A CSV of all rows with the file's full path and a column `split`: `train` and `test` by classes, as `train` draws them."""
    path = output / "tables" / f"{one.name}{draw}.csv"
    if path.is_file():
        return path
    rows = list(csv.DictReader(one.table.open(encoding="utf-8", newline="")))
    names = sorted({row[one.label] for row in rows})
    order = np.random.default_rng(draw).permutation(len(names))
    train = set() if one.times else {names[place] for place in order[: len(names) // 2]}  # the finch only measures
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("filename", "label", *one.times, "recording", "split"))
        for row in rows:
            name = str((one.table.parent / one.folder / row[one.audio]).resolve())
            recording = row.get("src_file", row[one.audio])  # cuts of one recording stay together
            times = [row[column] for column in one.times]
            writer.writerow((name, row[one.label], *times, recording, "train" if row[one.label] in train else "test"))
    return path


def test_rows(table: Path) -> Path:
    """The rows of the classes that measure, without the column `split`, beside the table."""
    path = table.with_name(f"{table.stem}_test.csv")
    if not path.is_file():
        rows = [row for row in csv.DictReader(table.open(encoding="utf-8", newline="")) if row.pop("split") == "test"]
        write_rows(path, rows)
    return path


def measure(one: Set, draw: int, row: str, model: str, output: Path, methods: tuple[str, ...] = OF_NETWORKS) -> None:
    """Figures of a model, 5-shot and 1-shot, by some methods."""
    from beats_jax.errors import UserError
    from beats_jax.pipelines.measuring.episodes import EpisodeSettings, evaluate_episodes

    reading: dict[str, Any] = {"group_column": "recording", "split_column": "none"}
    reading |= {f"{column}_column": column for column in one.times}
    for shots in SHOTS:
        place = figures_of(output, one.name, row, draw, shots)
        if (place / "metrics.json").is_file():
            continue
        shutil.rmtree(place, ignore_errors=True)  # of a call that was stopped
        print(f"== {one.name} draw {draw}, {row}, {shots}-shot", flush=True)
        settings = EpisodeSettings(
            model, test_rows(class_table(one, draw, output)), 5, shots, one.query, EPISODES, methods=methods,
            leave_out_small=True, class_draws=10, cache=output / "cache", reading=reading,
        )  # fmt: skip
        try:
            evaluate_episodes(settings, place, strict=False, command="benchmarks/few_shot.py", page="md")
        except UserError as error:
            print(f"{one.name} {row}: {error}", flush=True)


def figures_of(output: Path, name: str, row: str, draw: int, shots: int) -> Path:
    """The folder of a figure."""
    return output / "figures" / name / f"{row}_{draw}_{shots}"


def decoded(table: Path, output: Path) -> Path:
    """The table with its recordings at 16 kHz in DIR/audio: a run reads each of them a hundred times."""
    from beats_jax.audio.io import read, write_wav

    path = table.with_name(f"{table.stem}_decoded.csv")
    if path.is_file():
        return path
    rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    (output / "audio").mkdir(exist_ok=True)
    for row in rows:
        place = output / "audio" / f"{Path(row['filename']).stem}.wav"
        if not place.is_file():
            write_wav(place, read(row["filename"], sample_rate=16_000), 16_000)
        row["filename"] = str(place.resolve())
    write_rows(path, rows)
    return path


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """A CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def train(name: str, settings: dict[str, Any], output: Path) -> Path:
    """The folder of a run, trained where it does not stand yet; a stopped one goes on."""
    folder = output / "runs" / name
    if not (folder / "metrics.json").is_file():
        arguments = [f"--config.{key}={value}" for key, value in settings.items()]
        command = [sys.executable, "-m", "beats_jax.train", "--config", str(ROOT / "configs/fewshot.py"), *arguments]
        subprocess.run([*command, "--workdir", str(folder)], check=True, cwd=ROOT)
    return folder


def labelled(table: Path) -> dict[str, Any]:
    """Settings of a run on the training classes of a table."""
    return {
        "data.source": "csv",
        "data.metadata_file": table,
        "data.label_column": "label",
        "data.group_column": "recording",
        "data.split_column": "split",
        "evaluation.n_query": 2,
        "evaluation.episodes": 30,
        **SMALL,
    }


def vectors(chosen: list[Set], data: Path, output: Path) -> None:
    """What needs no training: vectors without weights, and a network of random ones."""
    for one, draw in places(chosen):
        for row in VECTORS:
            measure(one, draw, row, row, output, METHODS)


def trained(chosen: list[Set], data: Path, output: Path) -> None:
    """Networks trained on the other classes, and the same one untrained."""
    for one, draw in places(chosen):
        source = sets(data)["birds"] if one.times else one
        table = decoded(class_table(source, draw, output), output)
        for row, settings in TRAINED.items():
            epochs = {"training.max_steps": STEPS[row]}
            run = train(f"{source.name}_{row}{draw}", {**labelled(table), **settings, **epochs}, output)
            if row == "classical":
                measure(one, draw, "random", f"random:{run}", output)
            measure(one, draw, row, str(run), output)


def self_supervised(chosen: list[Set], data: Path, output: Path) -> None:
    """A transformer of 1 M parameters, contrastive, on unlabelled soundscapes."""
    settings = {
        "data.source": "recordings",
        "data.root": data / "soundscapes",
        "data.split_by": "rows",
        "objective.name": "contrastive",
    }
    settings |= {"data.train_split": 0.9, "data.val_split": 0.1, "data.test_split": 0.0, "data.batch_size": 32}
    settings |= {name: value for name, value in SMALL.items() if name != "model.widths"} | TRANSFORMER
    settings |= {"training.monitor": "loss", "training.max_steps": STEPS["self-supervised"]}
    run = train("self-supervised", settings, output)
    for one, draw in places(chosen):
        measure(one, draw, "self-supervised", str(run), output)


def places(chosen: list[Set]) -> Iterator[tuple[Set, int]]:
    """Every set with every draw of its classes."""
    return ((one, draw) for one in chosen for draw in range(one.draws))


def birdnet(output: Path, data: Path, python: str, network: str) -> None:
    """BirdNET's vectors of the birds, on episodes like the others'."""
    from beats_jax.datasets.episodes import EpisodeRule, EpisodeSampler
    from beats_jax.evaluation.episodes import methods, result

    kept, one = output / "birdnet.npz", sets(data)["birds"]
    if not kept.is_file():
        subprocess.run([python, __file__, "--worker", network, "--data", str(data), "--output", str(kept)], check=True)
    values = np.load(kept)
    for _, draw in places([one]):
        rows = list(csv.DictReader(test_rows(class_table(one, draw, output)).open(encoding="utf-8", newline="")))
        names, labels = np.unique([row["label"] for row in rows], return_inverse=True)
        found = np.stack([values[Path(row["filename"]).name] for row in rows])
        for shots in SHOTS:
            episodes = EpisodeSampler(labels, list(names), EpisodeRule(5, shots, one.query)).batch(0, EPISODES)
            metrics: dict[str, float | None] = {}
            for method in METHODS:
                named = methods.answers(methods.METHODS[method], found, episodes)
                accuracy = result.measure_episodes(
                    named, episodes, np.arange(len(names))[None], len(names), len(names), 0
                ).episodes
                bounds = {"": accuracy.value, "_low": accuracy.low, "_high": accuracy.high}
                metrics |= {f"{method}_accuracy{end}".replace("-", "_"): value for end, value in bounds.items()}
            place = figures_of(output, "birds", "birdnet", draw, shots)
            place.mkdir(parents=True, exist_ok=True)
            (place / "metrics.json").write_text(json.dumps(metrics))


def birdnet_worker(network: str, data: Path, output: Path) -> None:
    """Mean of BirdNET 2.4's embeddings over up to three windows of 3 s, float32 [1024] by file."""
    import soundfile
    import soxr  # type: ignore[import-not-found]
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]

    # The vector before the classifier is no output: every tensor is kept, so that it can be read
    interpreter: Any = Interpreter(network, num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    place, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"] - 1
    window, found = 144_000, {}
    for row in csv.DictReader((data / "birds/labels.csv").open(encoding="utf-8", newline="")):
        sound, rate = soundfile.read(data / "birds/audio" / row["filename"], dtype="float32", always_2d=True)
        sound = soxr.resample(sound.mean(axis=1), rate, 48_000)
        last = max(len(sound) - window, 0)
        parts = []
        for start in sorted({0, last // 2, last}):
            cut = sound[start : start + window]
            interpreter.set_tensor(place, np.pad(cut, (0, window - len(cut)))[None].astype(np.float32))
            interpreter.invoke()
            parts.append(interpreter.get_tensor(answer).reshape(-1).copy())
        found[row["filename"]] = np.mean(parts, axis=0)
    np.savez(output, **found)  # type: ignore[arg-type]


NAMES = {
    "filterbank": "mel statistics",
    "modulation": "`modulation`",
    "covariance": "`covariance`",
    "random": "random encoder",
    "self-supervised": "self-supervised encoder",
    "episodic": "trained episodically",
    "classical": "trained classically",
    "birdnet": "BirdNET 2.4 (knows these species)",
}


def table(output: Path) -> str:
    """Markdown: a row for each model and method, mean of the draws, with intervals over all their episodes and over the draws."""
    found: dict[tuple[str, str, str], dict[int, list[tuple[float, float]]]] = {}
    for file in sorted((output / "figures").glob("*/*/metrics.json")):
        row, _, shots = file.parent.name.rsplit("_", 2)
        metrics = json.loads(file.read_text())
        for method in METHODS:
            for way, shown in (("", ""), ("own-statistics_", ", own statistics")):
                key = f"{way}{method.replace('-', '_')}_accuracy"
                if key in metrics:
                    half = (metrics[f"{key}_high"] - metrics[f"{key}_low"]) / 2
                    of_draws = found.setdefault((file.parent.parent.name, row, method + shown), {})
                    of_draws.setdefault(int(shots), []).append((metrics[key], half))
    lines = ["| data | encoder | method | 5-shot | draws | 1-shot | draws |", "|---|---|---|---|---|---|---|"]
    order = list(NAMES)
    for name, row, method in sorted(found, key=lambda key: (key[0], order.index(key[1]), key[2])):
        cells = [text for shots in SHOTS for text in figure(found[name, row, method].get(shots, []))]
        lines.append(f"| {name} | {NAMES[row]} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure(draws: list[tuple[float, float]]) -> tuple[str, str]:
    """Mean of the draws with its 95 % interval over their episodes, and the interval for other draws by Student's t."""
    from scipy.stats import t

    if not draws:
        return "", ""
    values, halves = np.array(draws).T
    mean, half = values.mean(), np.sqrt(np.sum(halves**2)) / len(values)
    shown = f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"
    if len(values) < 3:
        return shown, ""
    # Draws of half of the classes vary as much as two halves of twice as many would: as evaluation.episodes.result
    spread = t.ppf(0.975, len(values) - 1) * values.std(ddof=1)
    return shown, f"[{mean - spread:.3f}, {mean + spread:.3f}]"


PARTS: dict[str, Callable[[list[Set], Path, Path], None]] = {
    "vectors": vectors,
    "trained": trained,
    "self-supervised": self_supervised,
}


def main() -> None:
    """Computes the parts and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of birds, esc10, finch and soundscapes")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS), help="of vectors, trained, self-supervised, birdnet, table")
    parser.add_argument("--sets", default="birds,esc10,finch")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of birds and esc10")
    parser.add_argument("--birdnet-python")
    parser.add_argument("--birdnet", help="BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return birdnet_worker(arguments.worker, arguments.data, arguments.output)
    for part in arguments.parts.split(","):
        if part == "table":
            continue
        if part == "birdnet":
            birdnet(arguments.output, arguments.data, arguments.birdnet_python, arguments.birdnet)
            continue
        known = sets(arguments.data.resolve())
        chosen = [replace(known[name], draws=min(known[name].draws, arguments.draws)) for name in arguments.sets.split(",")]
        PARTS[part](chosen, arguments.data.resolve(), arguments.output)
    text = table(arguments.output)
    (arguments.output / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
