"""Few-shot detection against an independent count by scipy's bipartite matching, and by hand."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from beats_jax.datasets.tables.events import Events
from beats_jax.evaluation.metrics.events import Counts
from beats_jax.evaluation.metrics.few_shot_detection import count_task, drop_short, few_shot_tasks, figures, measure


def events(rows):
    """(start, end, label) of the recording a.wav."""
    starts, ends, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Events.from_columns(["a.wav"] * len(rows), starts, ends, labels)


def matched(left, right):
    """Pairs of a largest matching of (start, end) that share more than 0.3, as indices of `right` for each of `left` or -1."""
    shared = np.zeros((len(left), len(right)))
    for i, j in np.ndindex(*shared.shape):
        (a, b), (c, d) = left[i], right[j]
        both = min(b, d) - max(a, c)
        shared[i, j] = both > 0 and both / (max(b, d) - min(a, c)) > 0.3
    return maximum_bipartite_matching(csr_matrix(shared), perm_type="column") if shared.size else np.full(len(left), -1)


@pytest.mark.parametrize("seed", range(12))
def test_counts_are_those_of_the_published_rules(seed):
    rng = np.random.default_rng(seed)

    def some(number, label, longest=2.0):
        starts = np.sort(rng.uniform(0, 40, number))
        return [(start, start + rng.uniform(0.2, longest), label) for start in starts.tolist()]

    truth = [*some(20, "owl"), *some(8, "UNK"), *some(4, "owl UNK"), *some(5, "crow UNK"), *some(9, "crow")]
    detections = some(25, "owl")
    task = next(task for task in few_shot_tasks(events(truth))[0] if task.label == "owl")
    owls = sorted(row for row in truth if row[2] == "owl")
    begin = owls[4][1]
    wanted = [row[:2] for row in owls[5:] if row[1] > begin]
    undecided = [row[:2] for row in truth if row[2] in ("UNK", "owl UNK") and row[1] > begin] + [row[:2] for row in owls[:5]]
    found = [row[:2] for row in detections if row[1] > begin]
    pairs = matched(wanted, found)
    right = int((pairs >= 0).sum())
    counted = count_task(task, events(detections))
    assert (counted.true_positives, counted.false_negatives) == (right, len(wanted) - right)
    # Which of several largest matchings is taken decides which detections are left: the excused ones lie within that.
    excused = len(found) - right - counted.false_positives
    assert 0 <= excused <= int((matched(undecided, found) >= 0).sum())


def test_the_first_five_are_known_and_the_rest_is_searched():
    truth = [(t, t + 1, "owl") for t in (10, 0, 2, 4, 6, 8, 12)]
    short = [(t, t + 1, "wren") for t in range(5)]
    tasks, left_out = few_shot_tasks(events([*truth, *short, (5.5, 8.8, "UNK"), (8.5, 9.5, "UNK")]))
    assert [task.label for task in tasks] == ["owl"]
    assert left_out == [("a.wav", "wren", 5)]
    (task,) = tasks
    assert task.begin == 9
    np.testing.assert_array_equal(task.support.starts, [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(task.query.starts, [10, 12])
    np.testing.assert_array_equal(task.undecided.ends, [9.5])
    found = events([(0, 1, "owl"), (10, 11, "owl"), (8.6, 9.5, "owl"), (20, 21, "owl")])
    assert count_task(task, found) == Counts(1, 1, 1)  # the known one does not count, the undecided one is excused
    assert count_task(task, events([])) == Counts(0, 0, 2)
    # The fifth owl (8 to 9) again, a little late: known, so no false alarm; a second one there is
    assert count_task(task, events([(8.1, 9.1, "owl"), (12, 13, "owl")])) == Counts(1, 0, 1)
    assert count_task(task, events([(8.1, 9.1, "owl"), (8.2, 9.2, "owl"), (8.3, 9.3, "owl")])) == Counts(0, 1, 2)


def test_exactly_the_share_is_no_match():
    tasks, _ = few_shot_tasks(events([(t, t + 1, "owl") for t in (0, 2, 4, 6, 8, 10)]))
    assert count_task(tasks[0], events([(10.0, 10.25, "owl")]), iou=0.25).true_positives == 0
    assert count_task(tasks[0], events([(10.0, 10.26, "owl")]), iou=0.25).true_positives == 1


def test_short_detections_are_dropped_by_the_shortest_known_event():
    support = events([(0, 1.0, "owl"), (2, 2.5, "owl")])
    kept = drop_short(events([(10, 10.5, "owl"), (11, 11.4, "owl"), (12, 14, "owl")]), support)
    np.testing.assert_array_equal(kept.starts, [10, 12])
    assert len(drop_short(events([(10, 10.4, "owl")]), support, share=0.6)) == 1


def test_subsets_are_joined_by_the_harmonic_mean():
    found = figures([Counts(8, 2, 0), Counts(1, 1, 3)])
    assert found["precision"] == pytest.approx(2 / (1 / 0.8 + 1 / 0.5))
    assert found["recall"] == pytest.approx(2 / (1 / 1.0 + 1 / 0.25))
    assert figures([Counts(8, 2, 0), Counts(0, 0, 5)])["f1"] == pytest.approx(2e-5, rel=1e-3)
    counts = {("a", "x"): Counts(4, 1, 0), ("b", "x"): Counts(4, 1, 0), ("c", "y"): Counts(1, 1, 3)}
    estimates, whole = measure(counts, {"a": "birds", "b": "birds", "c": "frogs"}, resamples=200)
    assert whole == {"birds": Counts(8, 2, 0), "frogs": Counts(1, 1, 3)}
    assert estimates["precision"].value == pytest.approx(found["precision"])
    assert estimates["f1"].low == estimates["f1"].high  # the recordings of `birds` are alike
