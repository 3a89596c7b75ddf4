"""Makes regions.json: boxes and features of the recordings here, and pseudo-labels, as bambird computes them.

pip install scikit-maad==1.5.2 kneed==0.9.0 scikit-learn soundfile; git clone https://github.com/ear-team/bambird (commit 4441f6d)
python tests/golden/make_regions.py BAMBIRD_FOLDER
"""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import maad.features
import maad.rois
import maad.sound
import maad.util
import numpy as np
import pandas as pd
import soundfile
from calls import RATE, calls_in_noise
from kneed import KneeLocator
from sklearn.cluster import DBSCAN
from sklearn.neighbors import NearestNeighbors

GOLDEN = Path(__file__).parent
DARKSOUND = {"LOW_FREQ": 250, "HIGH_FREQ": 5000, "BUTTER_ORDER": 5, "MIN_DURATION": 0.2}
FAINT = {
    "MASK_PARAM1": 14,
    "MASK_PARAM2": 7,
    "MIN_DURATION": 0.05,
    "MARGIN_T_LEFT": 0.03,
    "MARGIN_F_BOTTOM": 100,
    "NFFT": 512,
    "HIGH_FREQ": 10_000,
}


def boxes(bambird, name: str, waveform: np.ndarray, rate: int, options: dict) -> dict:
    """Boxes of one recording at its own rate, cut into 4 s."""
    options = {**options, "SAMPLE_RATE": rate, "CHUNK_DURATION": 4}
    settings = {**bambird.PARAMS_EXTRACT, **options}
    sound = waveform - waveform.mean()
    edges = [settings["LOW_FREQ"], min(settings["HIGH_FREQ"], rate // 2 - 1)]
    sound = maad.sound.select_bandwidth(
        sound, rate, fcut=edges, forder=settings["BUTTER_ORDER"], fname="butter", ftype="bandpass"
    )
    found = []
    for start in range(0, len(sound), 4 * rate):
        rows = bambird.extract_rois_full_sig(sound[start : start + 4 * rate], settings)
        found += [[row.min_t + start / rate, row.max_t + start / rate, row.min_f, row.max_f] for row in rows.itertuples()]
    return {"file": name, "options": options, "boxes": np.round(found, 4).tolist()}


def features(path: Path) -> dict:
    """Features of half a second around the peak of a recording, by the calls of bambird's `compute_features`."""
    waveform, rate = soundfile.read(path)
    start = max(0, int(np.abs(waveform).argmax()) - rate // 4)
    stop = start + rate // 2
    sound = maad.sound.select_bandwidth(
        waveform[start:stop], rate, fcut=[250, 12_000], forder=5, fname="butter", ftype="bandpass"
    )
    power, times, hz, _ = maad.sound.spectrogram(sound, rate, nperseg=1024, noverlap=512)
    power[:2] = 0
    clean, _, _ = maad.sound.remove_background(maad.util.power2dB(power, db_range=96) + 96)
    clean *= clean > 6
    rows = np.where(maad.sound.avg_amplitude_spectro(clean) != 0)[0]
    bounds = pd.DataFrame([[rows[2], 0, rows[-1], clean.shape[1] - 1]], columns=["min_y", "min_x", "max_y", "max_x"])
    shape, _ = maad.features.shape_features(clean, resolution="high", rois=bounds)
    mean = maad.util.running_mean(maad.sound.avg_power_spectro(maad.util.dB2power(clean)), N=35)
    level = maad.util.power2dB(mean)
    inside = np.flatnonzero(level > level.max() - 6)
    low, high = hz[inside[0]], hz[inside[-1]]
    values = {"duration_t": times[-1], "centroid_f": (low + high) / 2, "peak_f": hz[level.argmax()], "bandwidth_f": high - low}
    values |= {"bandwidth_min_f": low, "bandwidth_max_f": high, "snr": maad.util.power2dB(np.percentile(mean, 99))}
    values |= {name: shape[name].iloc[0] for name in shape if name.startswith("shp")}
    rounded = {name: round(float(value), 6) for name, value in values.items()}
    return {"file": str(path.relative_to(GOLDEN / "recordings")), "samples": [start, stop], "features": rounded}


def pseudo_labels(seed: int) -> dict:
    """Signal and noise among random features of one species, by the calls of bambird's `find_cluster`."""
    draw = np.random.default_rng(seed)
    alike = draw.normal(0, 0.05, (24, 5)) + np.array([0.5, 0.2, 0.8, 0.4, 0.6])
    table = np.round(np.concatenate([alike, draw.uniform(0, 1, (16, 5))]), 4)
    shape, others = table[:, :3], table[:, 3:]
    scaled = [(shape - shape.min()) / np.ptp(shape), (others - others.min(axis=0)) / np.ptp(others, axis=0)]
    points = np.concatenate(scaled, axis=1)
    distances = np.sort(NearestNeighbors(n_neighbors=2).fit(points).kneighbors(points)[0], axis=0)[:, 1]
    knee = KneeLocator(np.arange(len(distances)), distances, interp_method="polynomial", curve="convex", direction="increasing")
    groups = DBSCAN(eps=knee.knee_y or distances.max(), min_samples=2).fit(points).labels_
    biggest = np.bincount(groups[groups >= 0]).argmax()
    return {"features": table.tolist(), "eps": float(knee.knee_y), "signal": (groups == biggest).tolist()}


def main() -> None:
    """Writes the file."""
    warnings.simplefilter("ignore")
    spec = importlib.util.spec_from_file_location("bambird", Path(sys.argv[1]) / "bambird/segmentation_extract_rois_full_sig.py")
    bambird = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bambird)
    barks = sorted((GOLDEN / "recordings/esc10/audio").glob("*.ogg"))
    sounds = [(str(path.relative_to(GOLDEN / "recordings")), *soundfile.read(path)) for path in barks]
    sounds += [(f"calls {seed}", calls_in_noise(seed), RATE) for seed in range(2)]
    result = {
        "boxes": [boxes(bambird, *sound, options) for sound in sounds for options in ({}, DARKSOUND, FAINT)],
        "features": [features(path) for path in barks[:3]],
        "pseudo_labels": [pseudo_labels(seed) for seed in range(3)],
    }
    (GOLDEN / "regions.json").write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
