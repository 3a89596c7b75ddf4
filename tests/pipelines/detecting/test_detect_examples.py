"""`detect --examples`: finds calls of known time from a few clips or a table, resumes with the same detector, names mistakes."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from beats_jax.audio.io import write_wav
from beats_jax.detect import main as detect
from beats_jax.errors import UserError
from beats_jax.pipelines.detecting.background import false_alarms
from beats_jax.pipelines.detecting.examples import find_examples
from beats_jax.pipelines.detecting.mel_templates import aligned, band_levels, loud_bands, template_of

RATE = 16_000
TIMES = (3.0, 8.5, 14.2, 21.0, 26.6)


def _call(draw, rising=True, seconds=0.3):
    time = np.arange(int(seconds * RATE)) / RATE
    slope = 4000 if rising else -4000
    start = (2000 if rising else 3200) * draw.uniform(0.98, 1.02)
    return 0.15 * np.sin(2 * np.pi * (start * time + slope * time**2 / 2)) * np.hanning(len(time))


def _noise(draw, seconds):
    return 0.02 * draw.standard_normal(int(seconds * RATE))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A recording with five rising and two falling calls; four clips of each; a table of the first two rising ones."""
    root, draw = tmp_path_factory.mktemp("examples"), np.random.default_rng(0)
    (root / "night").mkdir()
    sound = _noise(draw, 30)
    for start in TIMES:
        call = _call(draw)
        sound[int(start * RATE) :][: len(call)] += call
    for start in (5.5, 17.0):
        call = _call(draw, rising=False)
        sound[int(start * RATE) :][: len(call)] += call
    write_wav(root / "night" / "a.wav", sound.astype(np.float32), RATE)
    write_wav(root / "night" / "quiet.wav", _noise(draw, 10).astype(np.float32), RATE)
    for name in ("rising", "falling"):
        (root / "clips" / name).mkdir(parents=True)
        for number in range(4):
            clip = _noise(draw, 0.3) + _call(draw, rising=name == "rising")
            write_wav(root / "clips" / name / f"{number}.wav", clip.astype(np.float32), RATE)
    rows = "".join(f"night/a.wav,{start},{start + 0.3},up\n" for start in TIMES[:2])
    (root / "table.csv").write_text("file,start,end,label\n" + rows)
    return root


@pytest.fixture(scope="module")
def found(place):
    output = place / "found"
    assert detect(["--input", str(place / "night"), "--examples", str(place / "clips"), "--output", str(output)]) == 0
    return output


def _rows(output: Path, label: str) -> list[dict[str, str]]:
    with open(output / "detections.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["label"] == label]


def test_calls_are_found_where_they_are(found):
    rising, falling = _rows(found, "rising"), _rows(found, "falling")
    np.testing.assert_allclose([float(row["start"]) for row in rising], TIMES, atol=0.06)
    np.testing.assert_allclose([float(row["start"]) for row in falling], [5.5, 17.0], atol=0.06)
    for row in (*rising, *falling):
        assert row["file"].endswith("a.wav")
        assert float(row["end"]) - float(row["start"]) == pytest.approx(0.3, abs=0.02)


def test_the_same_call_adds_recordings_and_keeps_the_detector(place, found, capsys):
    draw = np.random.default_rng(5)
    before = _rows(found, "rising")
    sound = _noise(draw, 6)
    call = _call(draw)
    sound[RATE:][: len(call)] += call
    write_wav(place / "night" / "later.wav", sound.astype(np.float32), RATE)
    assert detect(["--input", str(place / "night"), "--examples", str(place / "clips"), "--output", str(found)]) == 0
    assert "the detector is that of" in capsys.readouterr().out
    after = _rows(found, "rising")
    assert [row for row in after if row["file"].endswith("a.wav")] == before
    assert [float(row["start"]) for row in after if row["file"].endswith("later.wav")] == pytest.approx([1.0], abs=0.06)


def test_other_examples_into_the_same_output_are_refused(place, found, capsys):
    other = str(place / "clips" / "rising")
    assert detect(["--input", str(place / "night"), "--examples", other, "--output", str(found)]) == 2
    assert "holds the scores of other examples; choose another --output" in capsys.readouterr().err


def test_a_table_of_events_is_as_good(place):
    output = place / "by_table"
    assert (
        detect(["--input", str(place / "night" / "a.wav"), "--examples", str(place / "table.csv"), "--output", str(output)]) == 0
    )
    np.testing.assert_allclose([float(row["start"]) for row in _rows(output, "up")], TIMES, atol=0.06)


def test_recordings_of_a_table_are_found_below_the_input(place, tmp_path):
    table = tmp_path / "elsewhere.csv"
    table.write_text("file,start,end,label\na.wav,1,2,up\n")
    assert find_examples(table, [str(place / "night")])[0].file == place / "night" / "a.wav"
    with pytest.raises(UserError, match="nor below --input"):
        find_examples(table, [str(tmp_path)])


def test_negatives_raise_the_threshold(place, capsys):
    arguments = ["--input", str(place / "night" / "a.wav"), "--examples", str(place / "clips" / "rising")]
    negatives = ["--negatives", str(place / "clips" / "rising")]  # sounds that are found are meant by nobody
    assert detect([*arguments, *negatives, "--output", str(place / "negatives")]) == 0
    assert len(_rows(place / "negatives", "rising")) < len(TIMES)


def test_mistakes_are_named(place, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no recordings"):
        find_examples(tmp_path / "empty")
    with pytest.raises(UserError, match="does not exist"):
        find_examples(tmp_path / "nothing")
    (tmp_path / "mixed" / "owl").mkdir(parents=True)
    for name in ("a.wav", "owl/b.wav"):
        write_wav(tmp_path / "mixed" / name, np.ones(800, np.float32) / 2, RATE)
    with pytest.raises(UserError, match="beside class folders"):
        find_examples(tmp_path / "mixed")
    write_wav(tmp_path / "empty" / "silence.wav", np.zeros(4800, np.float32), RATE)
    arguments = ["--input", str(place / "night"), "--output", str(tmp_path / "o")]
    assert detect([*arguments, "--examples", str(tmp_path / "empty")]) == 2
    assert "digital silence" in capsys.readouterr().err
    assert detect([*arguments, "--negatives", str(place / "clips")]) == 2
    assert "--negatives belongs to --examples" in capsys.readouterr().err
    assert detect(arguments) == 2
    assert "give --model" in capsys.readouterr().err


def test_the_tail_is_that_of_a_normal_distribution_even_with_calls_in_it():
    draw = np.random.default_rng(0)
    scores = np.concatenate([draw.normal(0.1, 0.2, 200_000), np.full(400, 3.0)])
    alarms = false_alarms(scores, per_hour=36_000)
    assert alarms.score_at(36) == pytest.approx(0.1 + 0.2 * norm.isf(1e-3), rel=0.02)
    assert alarms.rate_at(alarms.score_at(20)) == pytest.approx(20)


def test_examples_are_moved_onto_each_other():
    draw = np.random.default_rng(0)
    call = np.zeros((8, 128))
    call[np.arange(8), 40 + 2 * np.arange(8)] = 8.0
    stretches = [draw.standard_normal((14, 128)) for _ in range(4)]
    for stretch, place in zip(stretches, (1, 3, 4, 6), strict=True):
        stretch[place : place + 8] += call
    bands = loud_bands(stretches)
    assert set(range(40, 56, 2)) <= set(bands.tolist())
    mean = template_of(aligned([stretch[:, bands] for stretch in stretches], 8))
    assert np.corrcoef(mean.ravel(), call[:, bands].ravel())[0, 1] > 0.9


def test_levels_of_bands_do_not_follow_calls():
    frames = np.random.default_rng(0).normal(2, 0.5, (4000, 3))
    frames[:400] += 30
    level, spread = band_levels(frames)
    np.testing.assert_allclose(level, 2, atol=0.15)
    np.testing.assert_allclose(spread, 0.5, atol=0.1)


def test_events_of_a_table_count_once_and_lie_in_their_recording(tmp_path):
    write_wav(tmp_path / "a.wav", np.ones(4 * RATE, np.float32) / 2, RATE)
    table = tmp_path / "table.csv"
    table.write_text("file,start,end,label\na.wav,1,2,up\na.wav,1,2,up\na.wav,3,4.2,up\n")
    assert [(one.start, one.end) for one in find_examples(table)] == [(1, 2), (3, 4.2)]
    table.write_text("file,start,end,label\na.wav,1,2,up\na.wav,3,24,up\n")
    with pytest.raises(UserError, match=r"until 24 s, and .*a\.wav ends at 4 s; correct it"):
        find_examples(table)
