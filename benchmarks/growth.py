"""How a training step grows with length, batch, layers and devices, and the start of `train` with rows and files.

    python benchmarks/growth.py [--only length batch]        some minutes on two cores; what is in the table is not run again
    python benchmarks/growth.py --picture-only

Every point is a process of `step.py` (configs/small.py: four layers of width 128; a window of 5 s, a batch of 8 unless it is what
grows) or of `start.py`. Rows go to benchmarks/growth.csv, the picture to docs/images/growth.png. weak: 4 clips a device; strong:
32 clips on all devices together. Simulated devices share the processor's cores: weak scaling costs time there, and strong scaling
shows what the exchange costs. `MB` is of all devices together.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
COLUMNS = ("curve", "x", "seconds", "best", "MB", "said MB", "load", "date", "failed")
LENGTH, BATCH, LAYERS = (f"--config.{name}" for name in ("data.window_seconds", "data.batch_size", "model.encoder_layers"))
CURVES = {
    "length": {x: [f"{LENGTH}={x}", f"{BATCH}=8"] for x in (1, 2, 5, 10, 20, 40, 60)},
    "batch": {x: [f"{LENGTH}=5", f"{BATCH}={x}"] for x in (1, 2, 4, 8, 16, 32, 64)},
    "layers": {x: [f"{LENGTH}=5", f"{BATCH}=8", f"{LAYERS}={x}"] for x in (1, 2, 4, 8, 12)},
    "devices, weak": {x: ["--devices", f"{x}", f"{LENGTH}=5", f"{BATCH}={4 * x}"] for x in (1, 2, 4, 8)},
    "devices, strong": {x: ["--devices", f"{x}", f"{LENGTH}=5", f"{BATCH}=32"] for x in (1, 2, 4, 8)},
    "rows of 300 files": {x: ["--cases", f"{x}x300"] for x in (1_000, 10_000, 100_000, 1_000_000)},
    "files of one row": {x: ["--cases", f"{x}x{x}"] for x in (100, 1_000, 10_000, 100_000)},
}


def point(curve: str, x: int, rounds: int) -> dict[str, object]:
    """The row of a point."""
    starts = CURVES[curve][x][0] == "--cases"
    script = ["start.py"] if starts else ["step.py", "small", "--rounds", f"{rounds}"]
    command = [sys.executable, str(HERE / script[0]), *script[1:], *CURVES[curve][x]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    row = {"curve": curve, "x": x, "date": time.strftime("%Y-%m-%d"), "load": round(os.getloadavg()[0], 1)}
    if done.returncode:
        return row | {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if starts:
        found = {"seconds": found["first step, s"], "best": found["CPU s"], "MB": found["peak MB"]}
    return row | {name: round(found[name], 4) for name in ("seconds", "best", "MB", "said MB") if name in found}


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Panels of a curve each: seconds (left) and MB (right), both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 4, figsize=(14, 6.2), layout="constrained")
    for panel, curve in zip(panels.flat, CURVES, strict=False):
        own = sorted((row for row in rows if row["curve"] == curve and not row["failed"]), key=lambda row: int(row["x"]))
        panel.set_title(curve, fontsize=10)
        if not own:
            continue
        x = [int(row["x"]) for row in own]
        seconds, memory = ([float(row[name]) for row in own] for name in ("seconds", "MB"))
        panel.loglog(x, seconds, "o-", color="#2a7f62")
        panel.set_ylabel("s to the first step" if "row" in curve else "s a step", color="#2a7f62")
        other = panel.twinx()
        other.loglog(x, memory, "s--", color="#c8553d")
        if any(row["said MB"] for row in own):
            other.loglog(x, [float(row["said MB"] or "nan") for row in own], ":", color="#c8553d")
        other.set_ylabel("MB (dotted: as planned)" if "row" not in curve else "peak MB", color="#c8553d")
        panel.set_xticks(x, [f"{value:g}" for value in x], fontsize=7)
        for axes, values in ((panel, seconds), (other, memory)):  # log axes of less than a decade have no figures of their own
            axes.minorticks_off()
            axes.set_yticks((min(values), max(values)), [f"{value:.3g}" for value in (min(values), max(values))], fontsize=8)
    for panel in panels.flat[len(CURVES) :]:
        panel.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": ""})


def main() -> None:
    """Measures the points that are missing, and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CURVES, help="these curves")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--table", type=Path, default=HERE / "growth.csv")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs/images/growth.png")
    parser.add_argument("--picture-only", action="store_true", help="measure nothing")
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    if given.table.exists():
        with open(given.table, newline="") as file:
            rows = [row for row in csv.DictReader(file) if not row["failed"]]
    there = {(row["curve"], str(row["x"])) for row in rows}
    for curve in () if given.picture_only else given.only or CURVES:
        for x in CURVES[curve]:
            if (curve, str(x)) in there:
                continue
            rows.append(point(curve, x, given.rounds))
            print(json.dumps(rows[-1]), flush=True)
            with open(given.table, "w", newline="") as file:
                table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                table.writeheader()
                table.writerows(sorted(rows, key=lambda row: (list(CURVES).index(str(row["curve"])), int(str(row["x"])))))
    if given.table.exists():
        with open(given.table, newline="") as file:
            draw(list(csv.DictReader(file)), given.picture)


if __name__ == "__main__":
    main()
