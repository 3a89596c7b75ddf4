"""Boxes and features are those of bambird with scikit-maad (tests/golden/make_regions.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from golden.calls import calls_in_noise

from beats_jax.audio.io import audio_info, read
from beats_jax.audio.regions import find_regions
from beats_jax.audio.regions.features import feature_names, region_features

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "regions.json").read_text())


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """IoU of two boxes start, end, low, high."""
    sides = [min(first[end], second[end]) - max(first[end - 1], second[end - 1]) for end in (1, 3)]
    shared = max(0.0, sides[0]) * max(0.0, sides[1])
    return shared / (sum((box[1] - box[0]) * (box[3] - box[2]) for box in (first, second)) - shared)


def test_boxes_are_bambirds(real_recordings: Path) -> None:
    """IoU of 0.9 with each of its boxes, and no others: boxes of six clips and of generated calls at three settings."""
    matched = wanted = found = 0
    for case in GOLDEN["boxes"]:
        name, seed = case["file"], case["file"].removeprefix("calls ")
        sound = calls_in_noise(int(seed)) if seed != name else real_recordings / name
        ours = find_regions(sound, sample_rate=case["options"]["SAMPLE_RATE"], **case["options"]).to_numpy()
        best = [max((overlap(box, one) for one in ours), default=0.0) for box in case["boxes"]]
        matched, wanted, found = matched + sum(np.array(best) >= 0.9), wanted + len(best), found + len(ours)
    assert wanted > 50
    assert matched >= 0.95 * wanted
    assert found == wanted


@pytest.mark.parametrize("case", GOLDEN["features"], ids=lambda case: Path(case["file"]).stem)
def test_features_are_bambirds(case: dict, real_recordings: Path) -> None:
    """All 103 of each clip; the decoders differ in the last bits of Vorbis."""
    path = real_recordings / case["file"]
    rate = audio_info(path).sample_rate
    clip = read(path, sample_rate=rate)[slice(*case["samples"])]
    ours = region_features(clip, rate, band=(250, 12_000))
    assert list(ours) == feature_names()
    wanted = np.array([case["features"][name] for name in feature_names()])
    np.testing.assert_allclose(np.array(list(ours.values())), wanted, rtol=1e-3, atol=1e-4)
