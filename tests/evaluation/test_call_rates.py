"""Calls per hour by site and time, by hand and against the distribution from which they are drawn."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from beats_jax.datasets.tables.events import Events
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.call_rates import RecordingTime, call_rates
from beats_jax.evaluation.metrics.precision_table import PrecisionRow


def events(*rows):
    files, starts, labels = zip(*rows, strict=True)
    return Events.from_columns(files, starts, starts, labels)


RECORDINGS = {
    "a": RecordingTime("hill", datetime(2024, 5, 31, 5, 30), 3600.0),  # half an hour at 5, half at 6
    "b": RecordingTime("hill", datetime(2024, 6, 1, 5, 0), 1800.0),
    "c": RecordingTime("lake", datetime(2024, 5, 31, 23, 0), 7200.0),  # over midnight
}


def table(rates):
    return {(rate.site, rate.period, rate.label): (rate.hours, rate.detections, rate.calls_per_hour) for rate in rates}


def test_by_hand():
    found = events(("a", 0, "x"), ("a", 1799, "x"), ("a", 1800, "x"), ("b", 5, "x"), ("c", 3600, "y"))
    assert table(call_rates(found, RECORDINGS)) == {
        ("hill", "05", "x"): (1.0, 3, 3.0), ("hill", "05", "y"): (1.0, 0, 0.0),
        ("hill", "06", "x"): (0.5, 1, 2.0), ("hill", "06", "y"): (0.5, 0, 0.0),
        ("lake", "00", "x"): (1.0, 0, 0.0), ("lake", "00", "y"): (1.0, 1, 1.0),
        ("lake", "23", "x"): (1.0, 0, 0.0), ("lake", "23", "y"): (1.0, 0, 0.0),
    }  # fmt: skip
    by_day = table(call_rates(found, RECORDINGS, {"x": PrecisionRow(0.5, 8, 10)}, "day"))
    assert by_day["hill", "2024-05-31", "x"] == (1.0, 3, pytest.approx(2.4))
    assert by_day["hill", "2024-06-01", "x"] == (0.5, 1, pytest.approx(1.6))
    assert by_day["lake", "2024-06-01", "y"] == (1.0, 1, 1.0)
    assert ("hill", "", "x") in table(call_rates(found, RECORDINGS, period="all"))


def test_an_event_at_the_end_belongs_to_the_hour_that_was_recorded():
    made = {"a": RecordingTime("s", datetime(2024, 1, 1, 5, 0), 3600.0)}
    assert table(call_rates(events(("a", 3600.0, "x")), made)) == {("s", "05", "x"): (1.0, 1, 1.0)}


@pytest.mark.parametrize("precision", [None, {"x": PrecisionRow(0.5, 80, 100)}])
def test_the_interval_holds_the_true_rate(precision):
    """Poisson calls in 40 recordings, 100 times: about 95 of the intervals hold the rate."""
    draw, held = np.random.default_rng(0), 0
    made = {str(day): RecordingTime("s", datetime(2024, 1, 1, 5) + timedelta(days=day), 3600.0) for day in range(40)}
    for number in range(100):
        true_share = 1.0 if precision is None else draw.beta(80.5, 20.5)
        calls = [(file, float(start), "x") for file in made for start in range(draw.poisson(6))]
        rate = call_rates(events(*calls), made, precision, draws=500, seed=number)[0]
        held += rate.low <= 6 * true_share <= rate.high
    assert held >= 87


def test_the_same_seed_gives_the_same_interval_and_one_recording_none():
    found = events(("a", 0, "x"), ("b", 5, "x"))
    assert call_rates(found, RECORDINGS, seed=1)[0] == call_rates(found, RECORDINGS, seed=1)[0]
    assert np.isnan(next(rate for rate in call_rates(found, RECORDINGS) if rate.period == "06").low)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="time is not given"):
        call_rates(events(("z", 0, "x")), RECORDINGS)
    with pytest.raises(UserError, match="period"):
        call_rates(Events.none(), RECORDINGS, period="week")
    assert call_rates(Events.none(), RECORDINGS) == []
