"""Files that are no checkpoint, or mean harm, through the verb: one line, exit status 2, nothing run, nothing left behind.

`BEATS_JAX_SHOW=1 pytest -n 0 tests/weights/test_hostile_files.py` prints what each says.
"""

import json
import os
import pickle
import struct
import zipfile
import zlib

import ml_dtypes
import numpy as np
import pytest
from tiny_beats import TINY_BEATS, random_state_dict

from beats_jax.convert import main
from beats_jax.weights.families.beats import key_table, to_cfg
from beats_jax.weights.torch_writer import write_torch_file

WITNESS = "witness"  # what a pickle that ran would leave


class Runs:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def zip_of(folder, program, entries=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(folder / "bad.pt", "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        for name, data in entries:
            archive.writestr(name, data)
    return folder / "bad.pt"


def plain(folder, data, name="bad.pt"):
    (folder / name).write_bytes(data)
    return folder / name


def touches(folder):
    return f"touch '{folder / WITNESS}'"


def stack_global(folder):
    return b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(touches(folder))]) + touches(folder).encode() + b"\x85R."


def old_opcodes(folder):
    return f"(S{touches(folder)!r}\nios\nsystem\n.".encode()


def in_a_storage_record(folder):
    return b"\x80\x02(X\x07\x00\x00\x00storagecos\nsystem\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ."


def legacy(folder, program, keys=()):
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return plain(folder, b"".join(parts) + program + pickle.dumps(list(keys), 2))


def bomb(folder, size=4 << 30):
    """A storage that says it unpacks to 4 GB of zeros."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflater.compress(bytes(1 << 24)) + deflater.flush()
    path = zip_of(folder, b"\x80\x02}.", [("archive/data/0", b"x")])
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")  # the last entry of the directory
    content[place + 24 : place + 28] = struct.pack("<I", min(size, 2**32 - 2))
    return plain(folder, bytes(content) + data)


def long_tensor(folder):
    """A tensor of 16 TB spread from one value by strides of 0."""
    record = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ"
    shape = b"(J\xff\xff\xff\x7fJ\x00\x10\x00\x00t(K\x00K\x00t\x89ccollections\nOrderedDict\n)R"
    program = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(" + record + b"K\x00" + shape + b"tRs."
    return zip_of(folder, program, [("archive/data/0", bytes(4))])


def beats_with(folder, change):
    tensors = random_state_dict()
    content = {"cfg": to_cfg(TINY_BEATS), "model": tensors}
    change(content)
    return write_torch_file(folder / "bad.pt", content)


def cut(folder):
    whole = write_torch_file(folder / "bad.pt", {"cfg": to_cfg(TINY_BEATS), "model": random_state_dict()})
    return plain(folder, whole.read_bytes()[:20_000])


def poison(value):
    def change(content):
        content["model"]["layer_norm.bias"] = np.full(TINY_BEATS.embed_dim, value, np.float32)

    return change


def truncated_legacy(folder):
    """The older layout, whose last storage ends too early."""
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + b"QK\x00K\x04\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    path = legacy(folder, b"\x80\x02}X\x01\x00\x00\x00w" + tensor + b"s.", keys=["0"])
    return plain(folder, path.read_bytes() + struct.pack("<q", 4) + bytes(9))


def storage(numel=4):
    return b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK" + bytes([numel]) + b"t"


def strided(folder, offset=0, stride=1, numel=4, size=2):
    """A tensor of `size` values in a storage record of `numel` whose entry has four."""
    numbers = [b"J" + struct.pack("<i", number) for number in (offset, size, stride)]
    where = numbers[0] + numbers[1] + b"\x85" + numbers[2] + b"\x85\x89ccollections\nOrderedDict\n)R"
    program = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(" + storage(numel) + b"Q" + where + b"tRs."
    return zip_of(folder, program, [("archive/data/0", bytes(16))])


def forged_size(folder):
    """An entry whose directory record says fewer bytes than were packed."""
    path = beats_with(folder, lambda content: None)
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    content[place + 20 : place + 28] = struct.pack("<II", 4, 4)
    return plain(folder, bytes(content))


def nested(folder, depth=100_000):
    return zip_of(folder, b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")


def climbing_names(folder, prefix):
    with zipfile.ZipFile(folder / "bad.pt", "w") as archive:
        archive.writestr(f"{prefix}data.pkl", b"\x80\x02}.")
        archive.writestr(f"{prefix}{WITNESS}", b"written outside")
    return folder / "bad.pt"


def settings(**changes):
    """A good file whose cfg asks for these."""
    return lambda folder: beats_with(folder, lambda content: content["cfg"].update(changes))


def tensors(**changes):
    """A good file with other values for `layer_norm.bias` and the like, double underscores for dots."""
    return lambda folder: beats_with(
        folder, lambda content: content["model"].update({key.replace("__", "."): value for key, value in changes.items()})
    )


def labelled(label):
    def change(content):
        content["cfg"].update(finetuned_model=True, predictor_class=1)
        content["model"].update({"predictor.weight": np.zeros((1, 32), np.float32), "predictor.bias": np.zeros(1, np.float32)})
        content["label_dict"] = label

    return lambda folder: beats_with(folder, change)


def safetensors(folder, kind, shape, size):
    header = json.dumps({"patch_embedding.weight": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}}).encode()
    return plain(folder, struct.pack("<Q", len(header)) + header + bytes(size), "bad.safetensors")


def deep_json(folder):
    (folder / "cfg.json").write_text("[" * 100_000)
    return safetensors(folder, "F32", [1, 1, 1, 1], 4)


def half_of_it(dtype):
    def change(content):
        content["model"] = {key: value.astype(dtype) for key, value in content["model"].items()}
        del content["model"]["layer_norm.bias"]

    return lambda folder: beats_with(folder, change)


KINDS = {
    "empty": (lambda f: plain(f, b""), "an empty file"),
    "a log-in page": (lambda f: plain(f, b"<!DOCTYPE html><title>Sign in</title>"), "a web page"),
    "a Git LFS pointer": (lambda f: plain(f, b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    "JSON": (lambda f: plain(f, b'{"message": "not found"}'), "JSON"),
    "random bytes": (lambda f: plain(f, bytes(range(256)) * 8), "not a PyTorch file"),
    "cut in the middle": (cut, "truncated or damaged"),
    "os.system": (lambda f: zip_of(f, pickle.dumps(Runs(os.system, touches(f)), 2)), "refers to posix.system"),
    "eval": (lambda f: zip_of(f, pickle.dumps({"a": Runs(eval, f"open({str(f / WITNESS)!r}, 'w')")}, 2)), "builtin"),
    "exec in a list": (lambda f: zip_of(f, pickle.dumps([[Runs(exec, f"open({str(f / WITNESS)!r}, 'w')")]], 2)), "builtin"),
    "getattr": (lambda f: zip_of(f, pickle.dumps(Runs(getattr, "", "join"), 2)), "builtin"),
    "STACK_GLOBAL": (lambda f: zip_of(f, stack_global(f)), "refers to os.system"),
    "INST": (lambda f: zip_of(f, old_opcodes(f)), "refers to os.system"),
    "a call as storage type": (lambda f: zip_of(f, in_a_storage_record(f)), "refers to os.system"),
    "legacy with a call": (lambda f: legacy(f, pickle.dumps(Runs(os.system, touches(f)), 2)), "refers to posix.system"),
    "zip bomb": (bomb, "would unpack to"),
    "a tensor of 16 TB": (long_tensor, "spread from a storage"),
    "memo bomb": (lambda f: zip_of(f, b"\x80\x02}r\xff\xff\xff\x7f."), "memo index"),
    "TorchScript": (lambda f: zip_of(f, b"\x80\x02}.", [("archive/constants.pkl", b"\x80\x02).")]), "TorchScript"),
    "two data.pkl": (lambda f: zip_of(f, b"\x80\x02}.", [("other/data.pkl", b"\x80\x02}.")]), "2 data.pkl"),
    "paths that climb": (
        lambda f: zip_of(
            f, b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x05\x00\x00\x00../..X\x03\x00\x00\x00cpuK\x01tQ."
        ),
        "storage key",
    ),
    "no tensors": (lambda f: write_torch_file(f / "bad.pt", {"epoch": 3}), "no tensors"),
    "another family": (
        lambda f: write_torch_file(f / "bad.pt", {"wav2vec.weight": np.zeros(3, np.float32)}),
        "of no known family",
    ),
    "two families": (
        lambda f: beats_with(f, lambda c: c["model"].update({"v.dist_token": np.zeros((1, 1, 8), np.float32)})),
        "several kinds at once",
    ),
    "a layer too few": (
        lambda f: beats_with(f, lambda c: c["cfg"].update({"encoder_layers": 3})),
        "missing encoder.layers.2.",
    ),
    "a layer too many": (
        lambda f: beats_with(f, lambda c: c["cfg"].update({"encoder_layers": 1})),
        "unknown encoder.layers.1.",
    ),
    "NaN weights": (lambda f: beats_with(f, poison(np.nan)), "layer_norm.bias holds"),
    "infinite weights": (lambda f: beats_with(f, poison(np.inf)), "layer_norm.bias holds"),
    "whole numbers": (
        lambda f: beats_with(f, lambda c: c["model"].update({"layer_norm.bias": np.zeros(TINY_BEATS.embed_dim, np.int64)})),
        "not a float tensor",
    ),
    "safetensors cut": (lambda f: plain(f, struct.pack("<Q", 999) + b'{"a":', "bad.safetensors"), "truncated or damaged"),
    "safetensors too long": (lambda f: plain(f, struct.pack("<Q", 2**62) + b"{}", "bad.safetensors"), "truncated or damaged"),
    "cut legacy": (truncated_legacy, "truncated or damaged"),
    "BUILD": (
        lambda f: zip_of(f, b"\x80\x02cbeats_jax.convert\nmain\n}X\x01\x00\x00\x00aK\x01sb."),
        "refers to beats_jax.convert.main",
    ),
    "BUILD on an allowed class": (
        lambda f: zip_of(f, b"\x80\x02ccollections\nOrderedDict\n}X\x06\x00\x00\x00updateK\x01sb."),
        "truncated or damaged",
    ),
    "100,000 nested lists": (nested, "more than 100 deep"),
    "forged size": (forged_size, "truncated or damaged"),
    "storage record larger than its entry": (lambda f: strided(f, numel=5), "its header says 5 x 4"),
    "a negative stride": (lambda f: strided(f, offset=3, stride=-1), "stride (-1,)"),
    "a negative offset": (lambda f: strided(f, offset=-2), "offset -2"),
    "past the end": (lambda f: strided(f, offset=3), "reaches past its storage"),
    "entries in ../": (lambda f: climbing_names(f, "../"), "no tensors"),
    "entries in /etc": (lambda f: climbing_names(f, "/etc/"), "0 data.pkl"),
    "a million layers": (settings(encoder_layers=10**6), "encoder_layers is 1000000"),
    "a thousand layers": (settings(encoder_layers=1000), "missing encoder.layers.2."),
    "no width": (settings(encoder_embed_dim=0), "encoder_embed_dim is 0"),
    "a huge width": (settings(encoder_embed_dim=2**40), "encoder_embed_dim is 1099511627776"),
    "every size at its limit": (
        settings(
            **dict.fromkeys(("embed_dim", "encoder_embed_dim", "encoder_ffn_embed_dim", "conv_pos", "max_distance"), 2**20),
            conv_pos_groups=1,
            encoder_attention_heads=1,
            num_buckets=2**20,
        ),
        "has shape",
    ),
    "a negative width": (settings(encoder_ffn_embed_dim=-3), "encoder_ffn_embed_dim is -3"),
    "no taps": (settings(conv_pos=0), "conv_pos is 0"),
    "patches of two billion": (settings(input_patch_size=2**31), "input_patch_size is 2147483648"),
    "buckets without end": (settings(num_buckets=10**12, max_distance=10**13), "num_buckets is 1000000000000"),
    "a mean that is no number": (settings(fbank_mean=float("nan")), "mean is nan"),
    "an endless number": (settings(fbank_std=10**400), "finite"),
    "a NaN dropout": (settings(dropout=float("nan")), "dropout is nan"),
    "frames of years": (settings(frame_length=1e300), "frame_length_ms is 1e+300"),
    "half a character as a label": (labelled({0: "\ud800"}), "label_dict"),
    "a label number of 5,000 digits": (labelled({"9" * 5000: "owl"}), "label_dict"),
    "float64 beyond float32": (tensors(layer_norm__bias=np.full(16, 1e300)), "layer_norm.bias holds 16 values"),
    "float16 NaN": (tensors(layer_norm__bias=np.full(16, np.nan, np.float16)), "layer_norm.bias holds 16 values"),
    "bfloat16 without a tensor": (half_of_it(ml_dtypes.bfloat16), "missing layer_norm.bias"),
    "a text for a tensor": (tensors(layer_norm__bias="x"), "layer_norm.bias is str"),
    "safetensors of float8": (lambda f: safetensors(f, "F8_E4M3", [4], 4), "of a type that is not read"),
    "JSON 100,000 deep beside": (deep_json, "cfg.json is damaged"),
    "a pickle named safetensors": (lambda f: plain(f, pickle.dumps({}), "bad.safetensors"), "bare pickle"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_line_exit_2_and_nothing_left(tmp_path, capsys, kind):
    make, expected = KINDS[kind]
    folder = tmp_path / "files"
    folder.mkdir()
    path = make(folder)
    before = sorted(folder.iterdir())
    for arguments in ([str(path), str(folder / "out.safetensors")], ["--inspect", str(path)]):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert said.startswith("error: ")
        assert path.name in said
        assert expected in said
        assert sorted(folder.iterdir()) == before
    with capsys.disabled():
        if os.environ.get("BEATS_JAX_SHOW"):
            print(f"\n{kind}: {said.replace(str(folder), 'FOLDER').strip()[:230]}", end="")


def test_the_file_that_the_others_are_made_from_is_read(tmp_path):
    path = beats_with(tmp_path, lambda content: None)
    assert set(random_state_dict()) == set(key_table(TINY_BEATS))
    assert main([str(path), str(tmp_path / "out.safetensors")]) == 0


def test_a_folder_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    path = beats_with(tmp_path, lambda content: None)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    for output in ("out.pt", "out.safetensors", "out"):
        assert main([str(path), str(tmp_path / output)]) == 2
        expected = f"error: {tmp_path / output} cannot be written: Permission denied; choose another place\n"
        assert capsys.readouterr().err == expected
    assert [file.name for file in tmp_path.iterdir()] == ["bad.pt"]
