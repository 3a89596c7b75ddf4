"""Mel templates: the correlation is that of numpy, each place is looked at once, and peaks become events of the right length."""

import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.audio.filterbank import filterbank
from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.inference.events import EventRule, find_events
from beats_jax.pipelines.detecting.template import TemplateProgram, correlations

AUDIO = AudioConfig()


def _templates(draw):
    """Two templates of 5 and 3 of 5 frames, which look at different bands."""
    cells = np.zeros((2, 5, 128), np.float32)
    cells[0, :, 10:40] = 1
    cells[1, 1:4, 60:61] = 1
    cells[1, 1:4, 70:80] = 1
    templates = np.where(cells > 0, draw.standard_normal(cells.shape), 0).astype(np.float32)
    for place in range(2):
        inside = cells[place] > 0
        templates[place][inside] -= templates[place][inside].mean()
        templates[place] /= np.linalg.norm(templates[place])
    return templates, cells


def test_correlations_are_those_of_numpy():
    draw = np.random.default_rng(0)
    templates, cells = _templates(draw)
    values = draw.standard_normal((1, 20, 128)).astype(np.float32) * 3 + 2
    ours = np.asarray(correlations(jnp.asarray(values), jnp.asarray(templates), jnp.asarray(cells)))
    assert ours.shape == (1, 16, 2)
    for place in range(16):
        for one in range(2):
            inside = cells[one] > 0
            theirs = np.corrcoef(values[0, place : place + 5][inside], templates[one][inside])[0, 1]
            assert ours[0, place, one] == pytest.approx(theirs, abs=1e-5)


def test_a_window_has_the_best_of_its_places_and_neighbours_share_none():
    draw = np.random.default_rng(1)
    templates, cells = _templates(draw)
    params = {"level": np.full(128, 0.2), "spread": np.full(128, 2.0), "templates": templates, "cells": cells}
    params |= {"slope": np.array([2.0, 3.0]), "offset": np.array([0.1, 0.2])}
    program = TemplateProgram(AUDIO, {name: jnp.asarray(array, jnp.float32) for name, array in params.items()}, 4)
    wave = draw.standard_normal(16_000).astype(np.float32) * 0.1
    whole = np.asarray(filterbank(wave[None], None, AUDIO.filterbank)[0])
    every = np.asarray(correlations(jnp.asarray((whole - 0.2) / 2), jnp.asarray(templates), jnp.asarray(cells)))[0]
    window = 400 + (5 + 4 - 2) * 160  # samples of 5 + 4 - 1 frames
    starts = np.arange(10) * 4 * 160
    batch = {
        "waveforms": jnp.asarray(np.stack([wave[start : start + window] for start in starts])),
        "lengths": jnp.full(10, window),
    }
    found = np.asarray(program(program.params, batch)["logits"])
    best = np.stack([every[start : start + 4].max(axis=0) for start in range(0, 40, 4)])
    np.testing.assert_allclose(found, (np.arctanh(best) - [0.1, 0.2]) * [2.0, 3.0], atol=2e-4)
    assert program.identity() == TemplateProgram(AUDIO, program.params, 4).identity()
    assert program.identity() != TemplateProgram(AUDIO, program.params, 3).identity()


def test_a_recording_shorter_than_the_template_has_a_score():
    templates, cells = _templates(np.random.default_rng(2))
    params = {"level": np.zeros(128), "spread": np.ones(128), "templates": templates, "cells": cells}
    params |= {"slope": np.ones(2), "offset": np.zeros(2)}
    program = TemplateProgram(AUDIO, {name: jnp.asarray(array, jnp.float32) for name, array in params.items()}, 4)
    wave = jnp.asarray(np.random.default_rng(3).standard_normal((1, 600)), jnp.float32)
    assert np.isfinite(np.asarray(program(program.params, {"waveforms": wave, "lengths": jnp.array([600])})["logits"])).all()


def test_peaks_are_single_events_of_their_length():
    starts = np.arange(100) * 0.1
    scores = np.zeros((100, 1))
    scores[20:25, 0] = [0.6, 0.8, 0.95, 0.8, 0.6]  # one call and its flanks
    scores[31:33, 0] = [0.9, 0.7]
    scores[60, 0] = 0.4
    rule = EventRule(extent="peak")
    found = find_events("a.wav", starts, starts + 1.2, scores, ["x"], np.array([0.5]), rule, np.array([1.0]))
    np.testing.assert_allclose(found.starts, [2.3, 3.2])
    np.testing.assert_allclose(found.ends - found.starts, 1.0)
    np.testing.assert_allclose(found.scores, [0.95, 0.9])
    joined = find_events(
        "a.wav", starts, starts + 1.2, scores, ["x"], np.array([0.5]), EventRule(extent="peak", gap_seconds=0.1), np.array([1.0])
    )
    np.testing.assert_allclose([joined.starts, joined.ends], [[2.3], [4.2]])
    with pytest.raises(UserError, match="leave it at 1"):
        EventRule(extent="peak", low_ratio=0.5)
