"""Folders for the study of pre-training on two cores (docs/results.md): ESC-10, soundscapes and whale calls.

    python benchmarks/small_pretraining.py ../shared/data STUDY

STUDY/sound            what is heard without labels: ESC-10's folds 1 to 4, 96 soundscapes, 150 whale clips; 16 kHz WAV
STUDY/few/K_D.csv      fine-tuning: draw D of K clips a class from folds 1 to 4, of different recordings first; fold 5 is the test
STUDY/tree             seed 000's data/{unlabeled,labeled,positive,negative} of folds 1 to 4
STUDY/probe.csv        ESC-10 clips of recordings that have no label in STUDY/tree
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

RATE = 16_000
WHALES, LABELLED_A_FOLD, GATHERED = 150, 3, 8
SHOTS, DRAWS = (5, 10), (0, 1, 2)
POSITIVE, NEGATIVE = "crying_baby", "rain"


def convert(sources: list[Path], folder: Path) -> None:
    """Writes each recording at 16 kHz, mono, 16 bit."""
    from beats_jax.audio.io import read, write_wav

    folder.mkdir(parents=True)
    for source in sources:
        write_wav(folder / f"{source.stem}.wav", read(source, sample_rate=RATE), RATE)


def write_table(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def by_class(clips: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Clips of each class."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for clip in clips:
        found[clip["category"]].append(clip)
    return dict(sorted(found.items()))


def drawn(clips: list[dict[str, Any]], count: int, seed: str) -> list[dict[str, Any]]:
    """`count` clips in a random order in which clips of recordings not drawn before come first."""
    shuffled = random.Random(seed).sample(clips, len(clips))
    seen: defaultdict[str, int] = defaultdict(int)
    turns = []
    for clip in shuffled:
        turns.append(seen[clip["src_file"]])
        seen[clip["src_file"]] += 1
    order = sorted(range(len(shuffled)), key=turns.__getitem__)
    return [shuffled[index] for index in order[:count]]


def write_few(clips: list[dict[str, Any]], folder: Path) -> None:
    """The tables of fine-tuning."""
    tested = [clip for clip in clips if clip["fold"] == "5"]
    for shots in SHOTS:
        for draw in DRAWS:
            classes = by_class([clip for clip in clips if clip["fold"] != "5"])
            chosen = [clip for name in classes for clip in drawn(classes[name], shots, f"{name} {shots} {draw}")]
            rows = [(str(c["wav"]), c["category"], split) for split, of in (("train", chosen), ("test", tested)) for c in of]
            write_table(folder / f"{shots}_{draw}.csv", ("filename", "label", "split"), rows)


def write_tree(clips: list[dict[str, Any]], study: Path) -> None:
    """Seed 000's folders, and the table for the probe."""
    heard = [clip for clip in clips if clip["fold"] != "5"]
    labelled = [
        clip
        for fold in "1234"
        for name, of in by_class([clip for clip in heard if clip["fold"] == fold]).items()
        for clip in drawn(of, LABELLED_A_FOLD, f"{name} {fold}")
    ]
    rest = [clip for clip in heard if clip not in labelled]
    roles = {"labeled/audio": labelled}
    for role, name in (("positive", POSITIVE), ("negative", NEGATIVE)):
        roles[role] = drawn(by_class(rest)[name], GATHERED, role)
    roles["unlabeled"] = [clip for clip in rest if clip not in roles["positive"] + roles["negative"]]
    for role, of in roles.items():
        folder = study / "tree" / role
        folder.mkdir(parents=True)
        for clip in of:
            shutil.copy(clip["wav"], folder)
    rows = [(clip["wav"].name, clip["category"]) for clip in labelled]
    write_table(study / "tree" / "labeled" / "labels.csv", ("filename", "labels"), rows)
    recordings = {clip["src_file"] for clip in labelled}
    probed = [(str(c["wav"]), c["category"], c["src_file"]) for c in clips if c["src_file"] not in recordings]
    write_table(study / "probe.csv", ("filename", "label", "src_file"), probed)
    print(", ".join(f"{role} {len(of)}" for role, of in roles.items()), f"; probe {len(probed)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="folder with esc10, soundscapes and right-whale")
    parser.add_argument("study", type=Path, help="new folder")
    arguments = parser.parse_args()
    study = arguments.study.absolute()
    with (arguments.shared / "esc10" / "meta" / "esc50.csv").open(encoding="utf-8", newline="") as file:
        clips: list[dict[str, Any]] = list(csv.DictReader(file))
    for clip in clips:
        heard = clip["fold"] != "5"
        clip["wav"] = study / ("sound/esc10" if heard else "unheard") / f"{Path(clip['filename']).stem}.wav"
    for heard in (True, False):
        sources = [arguments.shared / "esc10" / "audio" / c["filename"] for c in clips if (c["fold"] != "5") == heard]
        convert(sources, study / ("sound/esc10" if heard else "unheard"))
    convert(sorted((arguments.shared / "soundscapes").glob("*.flac")), study / "sound" / "soundscapes")
    whales = sorted((arguments.shared / "right-whale" / "audio").glob("*.flac"))
    convert(random.Random(0).sample(whales, WHALES), study / "sound" / "whales")
    write_few(clips, study / "few")
    write_tree(clips, study)


if __name__ == "__main__":
    main()
