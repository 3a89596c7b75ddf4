"""Rows on standard output, in history.jsonl and in TensorBoard's files."""

import io
import json
import math
import re

import jax
import pytest

from beats_jax.errors import UserError
from beats_jax.training.writers import Bar, History, Lines, TensorBoard, Writers, for_run, read_rows


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_history_drops_rows_beyond_the_restored_step_and_half_rows(tmp_path):
    path = tmp_path / "run" / "history.jsonl"
    history = History(path)
    history.resume(0)
    for step in (1, 2, 3):
        history.write(step, "train", {"loss": 1 / step}, {"seconds": 9.0})
    with path.open("a") as file:
        file.write('{"step": 1, "spl')
    again = History(path)
    again.resume(2)
    again.write(3, "validation", {"accuracy": 0.5}, {})
    assert rows_of(path) == [
        {"step": 1, "split": "train", "loss": 1.0, "timing": {"seconds": 9.0}},
        {"step": 2, "split": "train", "loss": 0.5, "timing": {"seconds": 9.0}},
        {"step": 3, "split": "validation", "accuracy": 0.5},
    ]
    assert [item.name for item in path.parent.iterdir()] == ["history.jsonl"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"step": 1, "split": "train", "loss": 0.5', "line 1 is damaged"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"step": 1, "split": "tarin", "loss": 0.5}', "line 1 is damaged .*unknown split"),
        (b'{"step": 1, "split": "train", "loss": "0.5"}', "no number"),
        (b'{"step": 1, "split": "train", "timing": [1]}', "no number"),
        (b'{"step": "1", "split": "train"}', "step is '1', not int"),
        (b"[1]", "it is list, not dict"),
        (b"", "line 1 is damaged"),
        (b"[" * 100_000, "line 1 is damaged"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_a_damaged_row_is_named_before_the_training(tmp_path, line, fault):
    path = tmp_path / "history.jsonl"
    path.write_bytes(line + b'\n{"step": 2, "split": "train", "loss": NaN, "timing": {"seconds": 1.5}}\n')
    with pytest.raises(UserError, match=rf"history\.jsonl.*{fault}.*delete it to go on") as refusal:
        History(path).resume(9)
    assert "\n" not in str(refusal.value)
    path.write_bytes(path.read_bytes().partition(b"\n")[2])
    (row,) = read_rows(path)
    assert (row["step"], row["split"], row["timing"]) == (2, "train", {"seconds": 1.5})
    assert math.isnan(row["loss"])


def test_history_that_cannot_be_written_is_the_users_to_mend(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match=r"history\.jsonl cannot be written"):
        History(tmp_path / "run" / "history.jsonl").resume(0)


def test_lines_off_a_terminal():
    stream = io.StringIO()
    lines = Lines(stream, 100)
    lines.resume(0)
    lines.resume(40)
    lines.write(50, "train", {"loss": 0.123456, "learning_rate": 1e-4}, {"clips_per_second": 12.0})
    assert stream.getvalue() == (
        "resumed at step 40/100\nstep 50/100  train  loss 0.1235  learning_rate 0.0001  clips_per_second 12\n"
    )


def test_bar_on_a_terminal_starts_where_the_run_goes_on(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    with for_run(tmp_path, 10, terminal) as writers:
        writers.resume(4)
        for step in range(5, 11):
            writers.advance(step)
        writers.write(10, "train", {"loss": 0.5}, {"clips_per_second": 3.0})
        writers.write(10, "validation", {"accuracy": 0.75})
    text = terminal.getvalue()
    assert "10/10" in text
    assert "loss 0.5" in text
    assert "clips_per_second 3" in text
    assert "step 10  validation  accuracy 0.75\n" in text
    assert "resumed at step 4/10\n" in text


def test_steps_done_before_a_restart_count_for_no_rate(monkeypatch):
    """4,000 steps were done before, then one in two seconds: half a step a second, and never another rate."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    terminal = io.StringIO()
    bar = Bar(terminal, 5000)
    now[0] += 60  # the checkpoint is read
    bar.resume(4000)
    for _ in range(5):
        now[0] += 2
        bar.advance(4001 + _)
    bar.close()
    rates = [float(number) for number, unit in re.findall(r"([-\d.]+)(s/step|step/s)", terminal.getvalue())]
    assert rates
    assert set(rates) == {2.0}


def test_tensorboard_points_can_be_read_back(tmp_path):
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401  the format: length, crc, event, crc

    board = TensorBoard(tmp_path)
    board.resume(0)
    board.write(7, "train", {"loss": 0.25}, {"seconds": 2.0})
    board.close()
    (file,) = tmp_path.iterdir()
    data, points = file.read_bytes(), {}
    while data:
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        points |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
        data = data[16 + size :]
    assert points == {"train/loss": (7, 0.25), "train/seconds": (7, 2.0)}


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with Writers([History(tmp_path / "history.jsonl")]) as writers:
        writers.resume(0)
        writers.write(1, "train", {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []
