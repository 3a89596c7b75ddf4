"""Two real processes: their places, their rows and weights on devices, and what they tell each other."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from run_exchange import losses
from several_processes import run_job

from beats_jax.parallel import exchange
from beats_jax.parallel.mesh import make_mesh

SCRIPT = str(Path(__file__).with_name("run_exchange.py"))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exchange")
    for ended in run_job([SCRIPT, str(folder)], count=2, devices=2):
        assert ended.status == 0, ended.errors
    return [json.loads((folder / f"{index}.json").read_text()) for index in range(2)]


def test_every_process_knows_its_place(found):
    assert [(part["count"], part["is_main"]) for part in found] == [(2, True), (2, False)]


@pytest.mark.parametrize("prefix", ["", "interleaved_"])
def test_the_rows_of_a_process_are_on_its_devices(found, prefix):
    for index, part in enumerate(found):
        own = (np.arange(8.0).reshape(4, 2) + 100 * index).tolist()
        assert sorted(part[f"{prefix}rows"]) == [own[:2], own[2:]]
        assert part[f"{prefix}total"] == 2 * 28 + 800


def test_parts_on_other_processes_are_fetched(found):
    for part in found:
        assert part["split"]
        assert part["fetched"] == {"kernel": np.arange(32.0).reshape(8, 4).tolist(), "bias": [0, 1, 2]}


def test_each_process_computes_alone_with_weights_of_both(found):
    kernel = np.arange(32.0).reshape(8, 4)[:2]
    for index, part in enumerate(found):
        rows = np.arange(8.0).reshape(4, 2) + 100 * index
        expected = float((rows @ kernel).sum() + 3)
        assert part["local"] == [{"data": 2, "fsdp": 1}, [], expected]
        assert part["local_fsdp"] == [{"data": 1, "fsdp": 2}, ["fsdp"], expected]


def test_values_of_any_size_and_dtype_are_gathered(found):
    for part in found:
        assert part["gathered"] == [[], [[2**40 + 1] * 2] * 2]
        assert part["precise"] == [[1 / 3], [1 / 3 + 1]]
        assert part["names"] == ["", "é" * 300]


def test_values_reach_all(found):
    for part in found:
        assert part["values"] == [[0, 1], [1, 2]]
        assert part["any"] == [True, False]
        assert part["from_main"] == {"of": 0}
    assert [part["own"] for part in found] == [0, 1]


def test_two_processes_learn_what_one_does(found):
    alone = losses(make_mesh(devices=jax.devices()[:1]))
    for part in found:
        np.testing.assert_allclose(part["losses"], alone, atol=1e-5)


def test_an_error_of_process_0_is_raised_in_all(found):
    assert [part["user_error"] for part in found] == [["UserError", "no space for it"]] * 2
    assert [part["own_error"][0] for part in found] == ["ZeroDivisionError", "RuntimeError"]


def test_an_error_of_another_process_is_raised_in_all_with_its_number(found):
    assert [part["second_error"] for part in found] == ["process 1: no space for it"] * 2


def test_different_values_are_refused_by_all(found):
    for part in found:
        assert part["difference"].startswith(
            "settings: process 1 differs from process 0 ({'training': {'seed': 1}} instead of {'training': {'seed': 0}});"
        )


def test_one_process_exchanges_nothing():
    assert exchange.gather_values("a") == ["a"]
    assert exchange.call_on_main(lambda: 3) == 3
    assert exchange.main_first(lambda: 4) == 4
    exchange.barrier()
    exchange.require_same("anything", 1)
