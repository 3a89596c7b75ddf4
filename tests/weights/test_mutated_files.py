"""Seeded damage to every kind of file that a model is read from: the same model, or one line that names the file."""

import json
import resource
import shutil
import time
import zipfile

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from beats_jax.errors import UserError
from beats_jax.pipelines.checkpoints.parity import BUILT_IN
from beats_jax.weights.bundle import save_bundle
from beats_jax.weights.pretrained import read_checkpoint
from beats_jax.weights.raw import read_raw
from beats_jax.weights.torch_writer import write_torch_file

MUTATIONS = 300
SECONDS = 6.0  # two on a machine that is not busy
WORDS = (
    b"0",
    b"-1",
    b"1e999",
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"true",
    b"99999999999999999999",
    b"\\ud800",
    b"\xff",
    b"\0",
    b",",
    b"NaN",
)


def torch_zip(folder):
    shutil.copy(BUILT_IN / "beats_fine_tuned.pt", folder / "model.pt")
    return folder / "model.pt", ["model.pt"]


def torch_directory(folder):
    """An archive of one small tensor: mutations meet the directory and the pickle, not the values."""
    write_torch_file(folder / "model.pt", {"cfg": {"encoder_layers": 1}, "model": {"layer_norm.bias": np.ones(3, np.float32)}})
    return folder / "model.pt", ["model.pt"]


def torch_compressed(folder):
    path, names = torch_directory(folder)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path, names


def torch_legacy(folder):
    from test_torch_file import tensor, write_legacy

    bias = np.arange(12, dtype=np.float32)
    value = {"cfg": {"encoder_layers": 1}, "model": {"layer_norm.bias": tensor("0", "FloatStorage", 12, (12,), (1,))}}
    return write_legacy(folder / "model.pt", value, {"0": bias}), ["model.pt"]


def safetensors(folder):
    raw = read_raw(BUILT_IN / "beats_fine_tuned.pt")
    save_file({key: np.ascontiguousarray(value) for key, value in raw.state_dict.items()}, folder / "model.safetensors")
    (folder / "cfg.json").write_text(json.dumps(raw.content["cfg"]))
    return folder / "model.safetensors", ["model.safetensors", "cfg.json"]


def bundle(folder):
    save_bundle(folder / "owls", read_checkpoint(BUILT_IN / "beats_fine_tuned.pt"))
    return folder / "owls", ["owls/model.safetensors", "owls/model.json"]


def hugging_face_ast(folder):
    shutil.copytree(BUILT_IN / "ast_hugging_face", folder / "hub")
    return folder / "hub", ["hub/model.safetensors", "hub/config.json", "hub/preprocessor_config.json"]


def eat(folder):
    shutil.copy(BUILT_IN / "eat_fine_tuned.pt", folder / "model.pt")
    return folder / "model.pt", ["model.pt"]


def aves(folder):
    import yaml

    raw = read_raw(BUILT_IN / "beats_fine_tuned.pt")
    tensors = {f"backbone.{key}": np.ascontiguousarray(value) for key, value in raw.state_dict.items() if "predictor" not in key}
    save_file(tensors, folder / "model.safetensors")
    spec = {"audio_config": {"sample_rate": 16_000}, "init_config": dict(raw.content["cfg"])}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model_spec": spec}))
    return folder / "model.safetensors", ["model.safetensors", "config.yaml"]


def espnet(folder):
    import yaml

    raw = read_raw(BUILT_IN / "beats_fine_tuned.pt")
    tensors = {f"encoder.{key}": np.ascontiguousarray(value) for key, value in raw.state_dict.items() if "predictor" not in key}
    write_torch_file(folder / "model.pth", tensors)
    (folder / "config.yaml").write_text(yaml.safe_dump({"encoder_conf": {"beats_config": dict(raw.content["cfg"])}}))
    return folder / "model.pth", ["model.pth", "config.yaml"]


KINDS = (
    torch_zip, torch_directory, torch_compressed, torch_legacy, safetensors, bundle, hugging_face_ast, eat, aves, espnet,
)  # fmt: skip


CHECKED = (torch_zip, eat, bundle)  # hold checksums of their values: changed ones must not pass


def params_of(path):
    return flatten_dict(read_checkpoint(path).params, sep="/")


def mutated(data, draw, is_text):
    """Bytes changed, cut, doubled, emptied, or a value of a text put in the place of another."""
    kind = draw.integers(7)
    data = bytearray(data)
    head = min(len(data), 4096) if draw.random() < 0.7 else len(data)  # headers are small beside values, and tell more
    place = int(draw.integers(head)) if draw.random() < 0.7 else len(data) - 1 - int(draw.integers(min(len(data), 8192)))
    if is_text and kind < 5:
        stops = [i for i, byte in enumerate(data) if byte in b",:[]{}\n"] or [0]
        start = int(draw.choice(stops)) + 1
        end = next((stop for stop in stops if stop >= start), len(data))
        data[start:end] = WORDS[draw.integers(len(WORDS))]
    elif kind == 0:
        data[place] ^= 1 << int(draw.integers(8))
    elif kind == 1:
        data[place : place + int(draw.integers(1, 9))] = draw.bytes(int(draw.integers(1, 9)))
    elif kind == 2:
        del data[place:]
    elif kind == 3:
        data[place:place] = data[place : place + int(draw.integers(1, 200))]
    elif kind == 4:
        data[place : place + 4] = bytes(4) if draw.random() < 0.5 else b"\xff" * 4
    elif kind == 5:
        del data[place : place + int(draw.integers(1, 64))]
    else:
        data[place : place + 8] = int(draw.choice([0, 1, 2**31, 2**63 - 1])).to_bytes(8, "little")
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_damage_is_told_in_a_line_and_never_read_as_another_model(tmp_path, make):
    path, names = make(tmp_path)
    whole = {name: (tmp_path / name).read_bytes() for name in names}
    draw = np.random.default_rng(1)
    expected = params_of(path) if make not in (torch_directory, torch_compressed, torch_legacy) else None  # parts of a model
    outcomes = {"read": 0, "refused": 0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB; tests before this one may have needed more
    for number in range(MUTATIONS):
        name = names[int(draw.integers(len(names)))]
        (tmp_path / name).write_bytes(mutated(whole[name], draw, name.endswith((".json", ".yaml"))))
        start = time.perf_counter()
        try:
            found = params_of(path)
            assert expected is not None, (number, name)
            if make in CHECKED:
                assert all(np.array_equal(found[key], value) for key, value in expected.items()), (number, name)
            outcomes["read"] += 1
        except UserError as error:
            line = str(error)
            assert str(tmp_path) in line, (number, name, line)
            assert "\n" not in line, (number, name, line)
            assert len(line) < 5000, (number, name, line[:500])
            outcomes["refused"] += 1
        except Exception as error:
            raise AssertionError(f"mutation {number} of {name}: {type(error).__name__}: {error}") from error
        assert time.perf_counter() - start < SECONDS, (number, name)
        (tmp_path / name).write_bytes(whole[name])
    assert outcomes["refused"] > MUTATIONS // 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20


JSON_VALUES = (None, [], {}, "x", 1, -1, 1.5, True, [[]], "\ud800", float("inf"), [1, "a"], {"a": []})


def places(node, before=()):
    """The path of every value in parsed JSON."""
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield (*before, key)
        yield from places(node[key], (*before, key))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "name"),
    [(bundle, "owls/model.json"), (hugging_face_ast, "hub/config.json"), (hugging_face_ast, "hub/preprocessor_config.json")],
)
def test_every_value_of_a_description_by_every_other_kind(tmp_path, make, name):
    path, _ = make(tmp_path)
    text, refusals = (tmp_path / name).read_text(encoding="utf-8"), 0
    for place in places(json.loads(text)):
        for value in JSON_VALUES:
            facts = json.loads(text)
            node = facts
            for key in place[:-1]:
                node = node[key]
            node[place[-1]] = value
            (tmp_path / name).write_text(json.dumps(facts), encoding="utf-8")
            try:
                read_checkpoint(path)
            except UserError as error:
                line, refusals = str(error), refusals + 1
                assert str(tmp_path) in line, (place, value)
                assert "\n" not in line, (place, value)
            except Exception as error:
                raise AssertionError(f"{place} = {value!r}: {type(error).__name__}: {error}") from error
    assert refusals > 50


VALUES = (
    None, True, False, 0, -1, 1, 3, 2**31, 10**400, 0.5, -1.0, float("nan"), float("inf"), "", "x", "gelu", "\ud800", [], {}, (),
    [1, "a"], {"a": 1}, {0: "a"}, [[[]]], np.float32(2.5) * np.ones(()), np.zeros(0, np.float32), np.ones(3, np.float32),
    np.ones((2, 2), np.int64), np.ones(2, bool), np.full((4, 4), np.nan, np.float16), np.ones((1, 1, 16, 16), np.float32),
)  # fmt: skip
CONTENTS = ("beats_fine_tuned.pt", "beats_tokenizer.pt", "eat_pretraining.pt", "eat_fine_tuned.pt", "ast_original/model.pt")


def changed(content, draw):
    """A copy with one entry, at any depth, put in another's place, left out, or under another name."""
    if not isinstance(content, dict) or not content or draw.random() < 0.15:
        return VALUES[draw.integers(len(VALUES))]
    copy, keys = dict(content), list(content)
    key = keys[draw.integers(len(keys))]
    kind = draw.random()
    if kind < 0.15:
        del copy[key]
    elif kind < 0.25:
        copy["surprise" if draw.random() < 0.5 else int(draw.integers(99))] = copy.pop(key)
    elif kind < 0.35 and isinstance(copy[key], np.ndarray):
        copy[key] = copy[key].astype(draw.choice(["float16", "float64", "int32"]))[..., : int(draw.integers(3))]
    else:
        copy[key] = changed(copy[key], draw)
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTENTS)
def test_entries_of_any_kind_end_in_a_line(tmp_path, name):
    """The checksums of a zip keep random bytes from the content; whoever writes a file is not held by them."""
    raw = read_raw(BUILT_IN / name)
    whole = {**raw.content, "model": dict(raw.state_dict)} if raw.wrapper else dict(raw.state_dict)
    draw, refusals = np.random.default_rng(2), 0
    for number in range(MUTATIONS):
        content = changed(whole, draw)
        if draw.random() < 0.3:
            content = changed(content, draw)
        path = write_torch_file(tmp_path / "model.pt", content)
        start = time.perf_counter()
        try:
            params_of(path)
        except UserError as error:
            line = str(error)
            assert str(path) in line, (number, line)
            assert "\n" not in line, (number, line)
            assert len(line) < 8000, (number, line[:500])
            refusals += 1
        except Exception as error:
            raise AssertionError(f"change {number}: {type(error).__name__}: {error}") from error
        assert time.perf_counter() - start < SECONDS, number
    assert refusals > MUTATIONS // 4
