"""Counts by hour, day, month and site."""

from __future__ import annotations

from datetime import date, datetime

import numpy as np

from beats_jax.evaluation.embeddings.patterns import clocks, temporal_patterns


def test_clocks_move_by_the_place_in_the_recording_and_keep_wall_time() -> None:
    found = clocks(["2026-04-12T23:59:50", "2026-10-25T02:30:00+02:00", None, "", "noon"], np.array([15.0, 0, 0, 0, 0]))
    assert found == [datetime(2026, 4, 13, 0, 0, 5), datetime(2026, 10, 25, 2, 30), None, None, None]


def test_rows_are_counted_once_at_their_hour_day_month_and_site() -> None:
    times = [datetime(2026, 4, 12, 5), datetime(2026, 4, 12, 5, 59), datetime(2026, 4, 14, 23), None]
    found = temporal_patterns(times, ["north", "north", None, "south"])
    assert found.days == (date(2026, 4, 12), date(2026, 4, 13), date(2026, 4, 14))
    assert found.by_hour.sum() == 3
    assert found.by_hour[5].tolist() == [2, 0, 0]
    assert found.by_hour[23, 2] == 1
    assert found.by_month[3] == 3
    assert found.by_site == {"north": 2, "south": 1}
    assert (found.without_clock, found.without_site) == (1, 1)


def test_years_of_days_are_put_together_and_no_row_is_lost() -> None:
    times = [datetime(2024, 1, 1, 3), datetime(2025, 6, 1, 3), datetime(2026, 12, 31, 3)]
    found = temporal_patterns(times, [""] * 3)
    assert found.days_a_column > 1
    assert len(found.days) <= 92
    assert found.by_hour.sum() == 3
    assert found.by_hour[3, -1] == 1


def test_a_group_has_the_columns_of_the_whole_span_and_nothing_has_none() -> None:
    span = (date(2026, 4, 10), date(2026, 4, 20))
    assert len(temporal_patterns([datetime(2026, 4, 12, 5)], ["a"], span).days) == 11
    empty = temporal_patterns([None], [None])
    assert empty.days == ()
    assert empty.by_hour.shape == (24, 0)
