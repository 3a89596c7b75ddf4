"""Arrays with their hash in one file: read back right, or refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from beats_jax.errors import UserError
from beats_jax.weights.hashed import read_arrays, sha256_of_arrays, write_arrays

ARRAYS = {"values": np.arange(12, dtype=np.float32).reshape(2, 6), "rows": np.array([3, 1], np.int64)}
TEXTS = {"errors": '[["ü.wav", "silent"]]'}


@pytest.fixture
def file(tmp_path):
    write_arrays(tmp_path / "a.safetensors", ARRAYS, TEXTS)
    return tmp_path / "a.safetensors"


def test_what_was_written_comes_back(file):
    arrays, texts = read_arrays(file)
    assert texts == TEXTS
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_every_single_byte_counts(file):
    good = file.read_bytes()
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ 0x20]) + good[place + 1 :])
        with pytest.raises(UserError, match=r"a\.safetensors is damaged .*delete it") as refusal:
            read_arrays(file)
        assert "\n" not in str(refusal.value)


def test_a_file_of_others_without_a_hash_and_a_missing_one_are_refused(file):
    file.write_bytes(save(load(file.read_bytes()), TEXTS))
    with pytest.raises(UserError, match="damaged"):
        read_arrays(file)
    with pytest.raises(UserError, match=r"none is damaged .*No such file"):
        read_arrays(file.with_name("none"))


def test_facts_are_part_of_the_hash():
    assert sha256_of_arrays(ARRAYS, {"a": 1, "b": 2}) == sha256_of_arrays(dict(reversed(ARRAYS.items())), {"b": 2, "a": 1})
    assert len({sha256_of_arrays(ARRAYS, facts) for facts in ({}, None, [], json.dumps({}))}) == 4
