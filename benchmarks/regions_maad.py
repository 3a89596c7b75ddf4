"""The other side of regions.py: bambird's path through scikit-maad, in an environment of its own.

    python benchmarks/regions_maad.py WAVEFORMS.npz RESULT.json BAMBIRD_FOLDER

WAVEFORMS: name → float32 [samples] at 48 kHz. RESULT: name → boxes (start, end, low, high), and CPU seconds of filter and boxes.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import warnings
from pathlib import Path

import maad.rois
import maad.sound
import maad.util
import numpy as np

RATE, STRETCH = 48_000, 480_000


def boxes(bambird, waveform: np.ndarray) -> list[list[float]]:
    """As bambird's `single_file_extract_rois` at its defaults, which leaves out an end of under 10 s, here taken too."""
    settings = {**bambird.PARAMS_EXTRACT, "SAMPLE_RATE": RATE}
    edges = [settings["LOW_FREQ"], settings["HIGH_FREQ"]]
    order = settings["BUTTER_ORDER"]
    sound = maad.sound.select_bandwidth(
        waveform - waveform.mean(), RATE, fcut=edges, forder=order, fname="butter", ftype="bandpass"
    )
    found = []
    for start in range(0, len(sound), STRETCH):
        stretch = sound[start : start + STRETCH]
        rows = bambird.extract_rois_full_sig(stretch, settings) if len(stretch) >= 4 * settings["NFFT"] else []
        if len(rows):
            found += [[row.min_t + start / RATE, row.max_t + start / RATE, row.min_f, row.max_f] for row in rows.itertuples()]
    return found


def main() -> None:
    """Writes the result."""
    warnings.simplefilter("ignore")
    waveforms, result, folder = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("bambird", Path(folder) / "bambird/segmentation_extract_rois_full_sig.py")
    bambird = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bambird)
    with np.load(waveforms) as read:
        sounds = {name: read[name].astype(np.float64) for name in read.files}
    boxes(bambird, next(iter(sounds.values())))  # what is loaded at the first call
    start = time.process_time()
    found = {name: boxes(bambird, sound) for name, sound in sounds.items()}
    seconds = time.process_time() - start
    Path(result).write_text(json.dumps({"boxes": found, "cpu_seconds": seconds}))


if __name__ == "__main__":
    main()
