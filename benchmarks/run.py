"""Runs the benchmarks against their alternatives, and gathers all ratios in one table and one picture.

    python benchmarks/run.py --torch-python OTHER_ENV/bin/python [--quick] [--only load export]
    python benchmarks/run.py --picture-only                     the picture of the table as it is

OTHER_ENV: `pip install -r benchmarks/requirements-torch.txt`. Rows go to benchmarks/results.csv, and docs/images/benchmarks.png
shows those that have an aim. A part whose rows are there is not run again unless --only names it; a failed one is a row with
its reason, and the rest goes on. A ratio is the median over rounds in which the sides take turns, `low` and `high` the least and
the largest of them; `load`: averages of a minute meanwhile; on a machine with much else to do believe no figure.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rounds import HANDED_OVER

HERE = Path(__file__).parent
COLUMNS = ("part", "what", "against", "aim", "ratio", "low", "high", "rounds", "date", "machine", "load", "command", "failed")


@dataclass(frozen=True)
class Part:
    """A script and its arguments; {torch} stands for the other Python.

    Attributes:
      aims: regular expression of "case, method" to the aim: ">=" or "<=" and a number. Other rows have no aim.
      minutes: after which it is stopped.
    """

    command: str
    quick: str = ""
    aims: dict[str, str] = field(default_factory=dict)
    minutes: int = 40


PARTS = {
    "filterbank": Part(
        "filterbank.py --torch-python {torch} --clips 1 8",
        "--rounds 5",
        {r"8 clips, kaldi-native": ">=5", r"8 clips, torchaudio": ">=1.5"},
    ),
    "train_step": Part(
        "train_step.py --torch-python {torch}",
        "--quick",
        {
            r"forward.*, beats_jax float32": ">=1.1",
            r"step.*, beats_jax float32": ">=0.9",
            r"step.*, beats_jax bfloat16": ">=1.4",
        },
    ),
    "encoders": Part(
        "encoders.py --torch-python {torch}", "--rounds 2", {r"AST.*beats_jax float32": ">=1", r"EAT.*beats_jax float32": ">=1"}
    ),
    "cnn_step": Part("cnn_step.py --torch-python {torch}", "--rounds 2 --steps 3", {r"beats_jax": ">=1"}),
    "load": Part("load.py --torch-python {torch}", "--rounds 3", {r"beats_jax": ">=0.67"}),
    "export": Part("export.py", "--rounds 2 --clips 1", {r", file": ">=0.95"}),
    "embed": Part("embed.py --torch-python {torch}", "--files 2 --minutes 0.5 --rounds 2", {r"beats_jax float32": ">=1"}),
    "input": Part("input.py", "--quick", {r"peak memory": "<=1.1"}),
    "streaming": Part("streaming.py busy", "--minutes 2", {r"share of the time": ">=0.95"}),
    "bootstrap": Part("bootstrap.py", "--rounds 2 --loop-resamples 3", {r"bootstrap, from": ">=20"}),
    "probes": Part("probes.py", "--layers 1 --poolings 1 --sampled 8", {r"converged": ">=1"}),
    "search": Part(
        "search.py exact --faiss-python {torch}", "--rows 100000 --rounds 3", {r"^1 queries": ">=1", r"^10 queries": ">=1"}
    ),
    "few_shot": Part("few_shot_training.py --torch {torch}", "--rounds 1 --seconds 8", {r"CPU.*easyfsl": ">=3"}),
    "pretrain_step": Part("pretrain_step.py", "--rounds 2", {r"time of a step.*masked prediction": "<=0.5"}),
    "pretrain_eat": Part("pretrain_step_eat.py", "--rounds 2", {r"^EAT step / visible": "<=1.6"}),
    "start": Part(
        "start.py", "--cases 100x100 100000x300", {r"1000000 rows.*first step": "<=30", r"1000000 rows.*peak MB": "<=1500"}
    ),
}


def run_part(name: str, torch: str | None, quick: bool) -> list[dict[str, Any]]:
    """The rows of a part; a single one with `failed` where it fails."""
    part, command = PARTS[name], command_of(name, quick)
    row = {"part": name, "command": f"benchmarks/{command}", "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    if "{torch}" in command and not torch:
        return [{**row, "failed": "needs --torch-python"}]
    with tempfile.TemporaryDirectory() as folder:
        ratios, output = Path(folder) / "ratios.jsonl", Path(folder) / "output.txt"
        words = [sys.executable, *command.replace("{torch}", torch or "").split()]
        words[1] = str(HERE / words[1])
        environment = {**os.environ, HANDED_OVER: str(ratios)}
        began, loads = time.monotonic(), [os.getloadavg()[0]]
        with (
            open(output, "w") as file,
            subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment) as process,
        ):
            while process.poll() is None:
                time.sleep(1)
                loads.append(os.getloadavg()[0])
                if time.monotonic() - began > part.minutes * 60:
                    process.kill()
        lines = output.read_text(errors="replace").strip().splitlines()
        print("\n".join(lines), flush=True)
        row["load"] = f"{min(loads):.0f} to {max(loads):.0f}"
        found = [json.loads(line) for line in ratios.read_text().splitlines()] if ratios.exists() else []
    rows = [row | _figures(part, one) for one in found]
    if process.returncode:  # what it found before counts
        late = time.monotonic() - began > part.minutes * 60
        reason = f"stopped after {part.minutes} minutes" if late else (lines or ["no message"])[-1][:200]
        rows.append({**row, "failed": f"status {process.returncode}: {reason}"})
    return rows or [{**row, "failed": "it handed no ratio over"}]


def command_of(name: str, quick: bool) -> str:
    """Script and arguments of a part."""
    part = PARTS[name]
    return f"{part.command} {part.quick}" if quick and part.quick else part.command


def is_there(rows: Sequence[dict[str, Any]], name: str, quick: bool) -> bool:
    """Whether the table has this part whole, by this very command (or, for a quick run, by the full one)."""
    own = [row for row in rows if row["part"] == name]
    commands = {f"benchmarks/{command_of(name, way)}" for way in {quick, False}}
    return bool(own) and all(not row["failed"] and row["command"] in commands for row in own)


def _figures(part: Part, found: dict[str, Any]) -> dict[str, Any]:
    values, what = np.array(found["ratios"]), f"{found['case']}, {found['method']}"
    aim = next((aim for pattern, aim in part.aims.items() if re.search(pattern, what)), "")
    figures = {"ratio": np.median(values), "low": values.min(), "high": values.max()}
    rounded = {name: f"{value:.3g}" if value < 1000 else f"{value:.0f}" for name, value in figures.items()}
    return {"what": found["case"], "against": found["method"], "aim": aim, "rounds": len(values), **rounded}


def machine() -> str:
    """Processor and cores of this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def is_met(row: dict[str, str]) -> bool:
    """Whether a row reaches its aim."""
    value, aim = float(row["ratio"]), float(row["aim"][2:])
    return value >= aim if row["aim"].startswith(">=") else value <= aim


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of the table, none where there is no table."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes the table in the order of `PARTS`."""
    order = list(PARTS)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(sorted(rows, key=lambda row: order.index(row["part"]) if row["part"] in order else len(order)))


def draw(rows: Sequence[dict[str, str]], path: Path) -> None:
    """A bar for every row with an aim: the ratio over its aim (right of 1 is met), with its spread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in rows if row["aim"] and row["ratio"]][::-1]
    if not shown:
        return
    figure, axes = pyplot.subplots(figsize=(9, 0.8 + 0.3 * len(shown)), layout="constrained")
    for place, row in enumerate(shown):
        aim, more = float(row["aim"][2:]), row["aim"].startswith(">=")
        value, low, high = (float(row[name]) / aim if more else aim / float(row[name]) for name in ("ratio", "low", "high"))
        axes.barh(place, value, color="#2a7f62" if is_met(row) else "#c8553d")
        axes.plot(sorted((low, high)), (place, place), color="black", linewidth=1.2)
        axes.annotate(f" {row['ratio']} ({row['aim']})", (max(value, low, high), place), va="center", fontsize=8)
    axes.set_yticks(
        range(len(shown)), [f"{row['part']}: {row['what']}, {row['against']}".strip(", ") for row in shown], fontsize=8
    )
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.tick_params(axis="x", which="minor", labelbottom=False)
    axes.margins(x=0.2)
    axes.set_xlabel("figure over its aim (right of 1: met); line: spread over rounds", fontsize=9)
    dates = sorted({row["date"] for row in shown})
    axes.set_title(
        f"{shown[0]['machine']}, {dates[0]} to {dates[-1]}" if dates[1:] else f"{shown[0]['machine']}, {dates[0]}", fontsize=9
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": ""})


def main() -> None:
    """Runs what is asked for and missing, and prints a line for every row with an aim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", metavar="PYTHON", help="of the environment of the alternatives")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller cases")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts, also where the table has them")
    parser.add_argument("--table", type=Path, default=HERE / "results.csv")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs/images/benchmarks.png")
    parser.add_argument("--picture-only", action="store_true", help="run nothing")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = list(read_rows(given.table))
    wanted = () if given.picture_only else given.only or [name for name in PARTS if not is_there(rows, name, given.quick)]
    for name in wanted:
        print(f"\n== {name} ==", flush=True)
        found = run_part(name, given.torch_python, given.quick)
        rows = [row for row in rows if row["part"] != name] + found
        write_rows(given.table, rows)
    rows = list(read_rows(given.table))
    draw(rows, given.picture)
    for row in rows:
        what = f"{row['part']}: {row['what']}, {row['against']}"
        if row["failed"]:
            print(f"FAILED  {row['part']}: {row['failed']}")
        elif row["aim"]:
            print(
                f"{'met   ' if is_met(row) else 'MISSED'}  {what}: {row['ratio']} [{row['low']}, {row['high']}], aim {row['aim']}"
            )


if __name__ == "__main__":
    main()
