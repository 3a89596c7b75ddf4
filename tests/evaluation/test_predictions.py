"""predictions.csv and metrics.json: identity after reading back, pandas as second reader, hostile names, same bytes."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from beats_jax.config.schema import EvaluationConfig
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.result import evaluate_predictions
from beats_jax.evaluation.predictions import build_predictions, read_predictions, write_metrics, write_predictions

NAMES = ("Buteo; buteo", 'quoted "name"', "Häher, grau")


def make_table(multi_label=False, names=NAMES):
    rng = np.random.default_rng(0)
    probabilities = rng.random((5, len(names))).astype(np.float32)
    files = ["a.wav", "deep/äöü,.wav", "<script>.wav", 'b".wav', "日本.wav"]
    labels = [names[0], names[1], "", names[2], names[0]]
    if multi_label:
        labels = [names[:2], names[:1], (), names, names[1:]]
    return build_predictions(
        files, np.arange(5) / 3, [1, math.nan, 3, 4, 5], labels, probabilities, names, multi_label=multi_label, threshold=0.5
    )


@pytest.mark.parametrize("multi_label", [False, True])
def test_reads_back_what_it_wrote(tmp_path, multi_label):
    table = make_table(multi_label, ("a", "b b", "ç") if multi_label else NAMES)
    write_predictions(tmp_path / "predictions.csv", table)
    back = read_predictions(tmp_path / "predictions.csv")
    for name in ("files", "labels", "predictions", "class_names"):
        assert getattr(back, name) == getattr(table, name)
    for name in ("starts", "ends"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
    np.testing.assert_array_equal(back.probabilities.astype(np.float32), table.probabilities)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_pandas_reads_the_contract(tmp_path):
    table = make_table()
    write_predictions(tmp_path / "predictions.csv", table)
    frame = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert list(frame.columns) == ["file", "start", "end", "label", "prediction", *(f"p:{name}" for name in NAMES)]
    best = frame[[f"p:{name}" for name in NAMES]].to_numpy().argmax(axis=1)
    assert list(frame["prediction"]) == [NAMES[i] for i in best]
    assert frame["end"][1] == ""


def test_a_file_name_that_is_not_utf8_leaves_the_table_readable(tmp_path):
    name = b"bad\xff.wav".decode("utf-8", "surrogateescape")
    write_predictions(tmp_path / "p.csv", build_predictions([name], [0], [1], ["a"], np.ones((1, 1)), ["a"], multi_label=False))
    assert pd.read_csv(tmp_path / "p.csv")["file"][0] == read_predictions(tmp_path / "p.csv").files[0] == r"bad\udcff.wav"


FORMULAS = ("=cmd|' /C calc'!A0", "@SUM(A1)", "+1+1", "-2+3", "\tx", "'=quoted", "''-twice", "\uff1d1")
PLAIN = ("-5", "+0.5e3", "a=b", "'tis", "1-2", "")


def test_no_cell_is_a_formula_and_all_come_back(tmp_path):
    texts = (*FORMULAS, *PLAIN)
    names = [name for name in texts if name]
    table = build_predictions(
        texts, np.zeros(len(texts)), np.ones(len(texts)), [(name,) for name in texts], np.eye(len(texts), len(names)), names,
        multi_label=False,
    )  # fmt: skip
    write_predictions(tmp_path / "p.csv", table)
    cells = pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False).to_numpy()
    for row, text in zip(cells[:, [0, 3, 4]].tolist(), texts, strict=True):
        assert [cell == text for cell in row[:2]] == [text in PLAIN] * 2
        assert not any(re.match("[=+@\t\r\uff1d-]", cell) and cell not in PLAIN for cell in row)
    back = read_predictions(tmp_path / "p.csv")
    assert (back.files, back.labels, back.predictions) == (table.files, table.labels, table.predictions)
    assert back.class_names == tuple(names)


def test_the_start_of_a_file_is_0_also_in_tables_of_earlier_versions(tmp_path):
    table = build_predictions(["a"], [math.nan], [2.5], ["x"], np.ones((1, 1)), ["x"], multi_label=False)
    write_predictions(tmp_path / "p.csv", table)
    text = (tmp_path / "p.csv").read_text()
    assert text.splitlines()[1] == "a,0.0,2.5,x,x,1.0"
    (tmp_path / "p.csv").write_text(text.replace(",0.0,2.5,", ",nan,,"))
    assert (read_predictions(tmp_path / "p.csv").starts.tolist(), np.isnan(read_predictions(tmp_path / "p.csv").ends).all()) == (
        [0.0],
        True,
    )


def test_multi_label_joins_names():
    table = build_predictions(["x"], [0], [1], [("a", "b")], np.array([[0.9, 0.5, 0.1]]), "abc", multi_label=True)
    assert (table.labels, table.predictions) == (("a;b",), ("a;b",))


def test_metrics_from_the_table_are_the_metrics(tmp_path):
    rng = np.random.default_rng(4)
    labels, names = rng.integers(0, 3, 200), ["a", "b", "c"]
    probabilities = rng.dirichlet(np.full(3, 0.02), 200).astype(np.float32)  # many close to 0 and 1: rounding would make ties
    table = build_predictions(
        ["f"] * 200, np.arange(200), np.arange(200) + 1, [names[i] for i in labels], probabilities, names, multi_label=False
    )
    write_predictions(tmp_path / "p.csv", table)
    back = read_predictions(tmp_path / "p.csv")
    config = EvaluationConfig(bootstrap_resamples=20)
    numbers = [
        evaluate_predictions(known, found, names, None, False, config, 0).flat()
        for known, found in ((labels, probabilities), ([names.index(label) for label in back.labels], back.probabilities))
    ]
    assert numbers[0] == numbers[1]


def test_empty_table(tmp_path):
    table = build_predictions([], [], [], [], np.zeros((0, 2)), ["a", "b"], multi_label=False)
    write_predictions(tmp_path / "p.csv", table)
    back = read_predictions(tmp_path / "p.csv")
    assert back.probabilities.shape == (0, 2)
    assert back.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns"),
        ("file,start\n", "columns"),
        ("file,start,end,label,prediction,a\n", "columns"),
        ("file,start,end,label,prediction,p:a\nx,0,1,a,a\n", "row 2"),
        ("file,start,end,label,prediction,p:a\nx,0,1,a,a,high\n", "not a number"),
        (None, "cannot be read"),
        (b"file,start,end,label,prediction,p:a\n\xff,0,1,a,a,1\n", "cannot be read"),
    ],
)
def test_refuses_other_tables(tmp_path, text, message):
    path = tmp_path / "p.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        read_predictions(path)


def test_separator_in_a_class_name_is_refused_only_where_it_separates():
    make_table()
    with pytest.raises(UserError, match="rename the class"):
        make_table(multi_label=True)


def test_unequal_columns_are_refused():
    with pytest.raises(ValueError, match="rows"):
        build_predictions(["a"], [0], [1], ["x", "y"], np.zeros((1, 1)), ["x"], multi_label=False)


def test_metrics_json_is_sorted_without_nan_and_the_same_every_time(tmp_path):
    metrics = {"n": 3, "mAP": math.nan, "accuracy": 0.1 + 0.2, "auroc": None, "x": math.inf}
    write_metrics(tmp_path / "one.json", metrics)
    write_metrics(tmp_path / "two.json", dict(reversed(metrics.items())))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    back = json.loads((tmp_path / "one.json").read_text(), parse_constant=pytest.fail)
    assert back == {"accuracy": 0.1 + 0.2, "auroc": None, "mAP": None, "n": 3, "x": None}
    assert list(back) == sorted(back)
