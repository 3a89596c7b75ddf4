"""Template matching as scikit-maad does it, in an environment of its own: `PYTHON few_examples_maad.py REQUEST.json OUT.npz`.

REQUEST: {"recordings": [file], "templates": {label: [[file, start, end], ...]}}. OUT: for each recording r and label the times
(`t:r:label`, seconds) and the largest coefficient over the templates there (`s:r:label`).
"""

import json
import sys

import numpy as np
import soundfile
from maad import rois, sound, util

WINDOW, OVERLAP = 512, 256


def main(request: str, output: str) -> None:
    with open(request) as file:
        wanted = json.load(file)
    found = {}
    for place, recording in enumerate(wanted["recordings"]):
        wave, rate = soundfile.read(recording)
        whole, times, _, extent = sound.spectrogram(wave, rate, nperseg=WINDOW, noverlap=OVERLAP)
        whole = util.power2dB(whole, db_range=80), times, extent
        for label, templates in wanted["templates"].items():
            best, times = None, None
            for file, start, end in templates:
                scores, times = match(whole, rate, file, start, end)
                best = scores if best is None else np.maximum(best, scores)
            found[f"t:{place}:{label}"], found[f"s:{place}:{label}"] = times, best
    np.savez(output, **found)


def match(whole, rate, file, start, end):
    """Scores of every frame of a recording for one template, cut to the band that holds 90 % of what it has above its floor."""
    clip, own = soundfile.read(file)
    clip = clip[round(start * own) : round(end * own)] if end > 0 else clip
    if own != rate:
        raise SystemExit(f"{file} has {own} Hz and the recording {rate}")
    clip = np.pad(clip, (0, max(0, WINDOW + OVERLAP - len(clip))))
    template, *_ = sound.spectrogram(clip, rate, nperseg=WINDOW, noverlap=OVERLAP)
    power = template.mean(axis=1)
    share = np.cumsum(np.maximum(power - np.median(power), 0))
    band = slice(np.searchsorted(share / share[-1], 0.05), np.searchsorted(share / share[-1], 0.95) + 1)
    recording, times, extent = whole
    scores, _ = rois.template_matching(recording[band], util.power2dB(template, db_range=80)[band], times, extent, peak_th=0.99)
    return np.asarray(scores), times[: len(scores)]


if __name__ == "__main__":
    main(*sys.argv[1:])
