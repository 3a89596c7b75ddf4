"""Draws the pictures of docs/field-guide.md from the outputs of its commands.

python docs/field_guide/pictures.py DETECTIONS BY_EYE.csv RECORDINGS OUTPUT_FOLDER
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.mlab import specgram

from beats_jax.audio.io import read

SHOWN = ("063000", "074500", "111500", "181500")  # times of day


def spectrograms(detections: pd.DataFrame, truth: pd.DataFrame, recordings: Path, output: Path) -> None:
    """Four recordings with what was found (above) and what was marked by eye (below)."""
    figure, axes = plt.subplots(len(SHOWN), 1, figsize=(9, 7), sharex=True, layout="constrained")
    for axis, time in zip(axes, SHOWN, strict=True):
        file = next(recordings.glob(f"*_{time}.flac"))
        sound = read(file, sample_rate=22000)
        power, frequencies, _ = specgram(sound, 512, 22000, noverlap=256)
        level = 10 * np.log10(power + 1e-12)
        level -= np.median(level, axis=1, keepdims=True)
        edges = (0, 10, 0, frequencies[-1] / 1000)
        axis.imshow(level[::-1], aspect="auto", extent=edges, vmin=0, vmax=30, cmap="Greys")
        for table, height, colour in ((detections, 10.1, "tab:orange"), (truth, 0.5, "tab:blue")):
            for row in table[table.file.str.endswith(file.name)].itertuples():
                axis.hlines(height, row.start, row.end, colour, linewidth=4)
        axis.set_ylabel(f"{time[:2]}:{time[2:4]}\nkHz")
    axes[-1].set_xlabel("seconds")
    axes[0].set_title("found by detect from five examples (orange), marked by eye (blue)", fontsize=10)
    figure.savefig(output / "trills.png", dpi=90)


def hours(rates: pd.DataFrame, output: Path) -> None:
    """Calls per hour over the day, with their intervals."""
    own = rates[rates.by == "hour"].astype({"period": int})
    figure, axis = plt.subplots(figsize=(9, 2.6), layout="constrained")
    reach = np.stack([own.calls_per_hour - own.low, own.high - own.calls_per_hour]).clip(0)
    axis.bar(own.period, own.calls_per_hour, yerr=reach, color="tab:orange", ecolor="grey", capsize=2)
    axis.set(xlabel="hour of the day (the recorder's clock)", ylabel="trills per hour", xticks=range(0, 24, 2))
    figure.savefig(output / "hours.png", dpi=90)


def main() -> None:
    found, by_eye, recordings, output = map(Path, sys.argv[1:])
    spectrograms(pd.read_csv(found / "detections.csv"), pd.read_csv(by_eye), recordings, output)
    hours(pd.read_csv(found / "rates.csv"), output)


if __name__ == "__main__":
    main()
