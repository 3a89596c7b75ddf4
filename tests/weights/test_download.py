"""Getting checkpoints by name, against a real HTTP server on this machine: whole, broken off, wrong, twice at once."""

import errno
import os
import re
import runpy
import subprocess
import sys
import time
import warnings
from dataclasses import fields, replace
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from hub_server import COMMIT, HubServer, sha256

import beats_jax
from beats_jax.config.models import MODEL_FAMILIES
from beats_jax.errors import LicenceWarning, UserError
from beats_jax.weights import download, pretrained, published
from beats_jax.weights.download import ensure, ensure_checkpoint
from beats_jax.weights.published import Published, Source

WEIGHTS = np.random.default_rng(0).bytes(600_000)
CONFIG = b'{"a": 1}'
MODEL = Published(
    name="owlnet", file="owlnet.pt", family="beats", architecture="BEATs base", sample_rate=16_000, window_seconds=10.0,
    feature_size=768, page="https://example.org/owls", licence="MIT", companions=("config.json",),
    sources=(Source(repository="owls/owlnet", file="owlnet.pt", revision=COMMIT),), bytes=len(WEIGHTS), sha256=sha256(WEIGHTS),
)  # fmt: skip


@pytest.fixture
def server(monkeypatch):
    server = HubServer()
    server.repositories["owls/owlnet"] = {"owlnet.pt": WEIGHTS, "config.json": CONFIG}
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)  # read at import
    yield server
    server.shutdown()
    server.server_close()


def left_over(folder):
    """All files but the lock."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def test_a_checkpoint_arrives_whole_with_its_companions_and_its_origin(server, tmp_path):
    got = ensure(MODEL, tmp_path)
    assert got.path == tmp_path / "owlnet" / "owlnet.pt"
    assert got.path.read_bytes() == WEIGHTS
    assert (got.path.parent / "config.json").read_bytes() == CONFIG
    assert (got.sha256, got.source) == (sha256(WEIGHTS), f"owls/owlnet@{COMMIT}")
    assert left_over(tmp_path) == ["config.json", "origin.json", "owlnet.pt"]
    asked = len(server.requests)
    assert ensure(MODEL, tmp_path, offline=True) == got
    assert len(server.requests) == asked


def test_an_unknown_revision_and_hash_are_recorded_and_patterns_resolved(server, tmp_path):
    server.repositories["owls/deep"] = {"work/exp/run/epoch_latest.pt": WEIGHTS, "work/exp/run/config.yaml": b"a: 1\n"}
    source = Source(repository="owls/deep", file="*epoch_latest.pt", companions=("*config.yaml",))
    got = ensure(replace(MODEL, sha256=None, bytes=None, companions=(), sources=(source,)), tmp_path)
    assert (got.source, got.path.name) == (f"owls/deep@{COMMIT}", "owlnet.pt")
    assert (got.path.parent / "config.yaml").read_text() == "a: 1\n"
    got.path.write_bytes(b"other" + WEIGHTS[5:])
    with pytest.raises(UserError, match=r"damaged or another file.*delete it"):
        ensure(replace(MODEL, sha256=None, companions=()), tmp_path)
    got.path.unlink()  # and what comes in its place must be what came first
    server.repositories["owls/deep"]["work/exp/run/epoch_latest.pt"] = WEIGHTS[::-1]
    with pytest.raises(UserError, match="it offers another file"):
        ensure(replace(MODEL, sha256=None, bytes=None, companions=(), sources=(source,)), tmp_path)


def test_a_broken_download_goes_on_in_the_same_call(server, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 50_000)  # resumption starts at a whole chunk
    server.break_after["owlnet.pt"] = 250_000
    assert ensure(MODEL, tmp_path).path.read_bytes() == WEIGHTS
    assert server.gets("owlnet.pt") == [None, "bytes=250000-"]


def test_a_killed_download_leaves_nothing_that_counts(server, tmp_path):
    server.delay = 60.0
    process = start_process(tmp_path)
    while not server.gets("config.json"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not [name for name in left_over(tmp_path / "owlnet") if name in ("owlnet.pt", "config.json", "origin.json")]
    server.delay = 0.0
    assert ensure(MODEL, tmp_path).path.read_bytes() == WEIGHTS
    assert left_over(tmp_path) == ["config.json", "origin.json", "owlnet.pt"]


def test_the_next_source_is_taken_when_one_fails_or_lies(server, tmp_path):
    files = {"owlnet.pt": WEIGHTS, "config.json": CONFIG}
    server.repositories |= {"owls/other": files | {"owlnet.pt": WEIGHTS[::-1]}, "owls/short": files | {"owlnet.pt": b"short"}}
    server.repositories["owls/liar"] = files
    server.delivered["owls/liar"] = {"owlnet.pt": WEIGHTS[::-1]}
    bad = tuple(Source(f"owls/{name}", "owlnet.pt") for name in ("none", "other", "short", "liar"))
    bad += (Source("owls/owlnet", "nothing.pt"),)
    with pytest.raises(UserError) as error:
        ensure(replace(MODEL, sources=bad), tmp_path)
    message = str(error.value)
    for part in (
        f"owls/none@default branch: {server.url}: HTTP 404", "owls/other@default branch: it offers another file",
        "owls/short@default branch: the file has 5 bytes, not 600000", "owls/liar@default branch: the file has sha256",
        "there is no nothing.pt", f"put it at {tmp_path}/owlnet/owlnet.pt", "model_path=",
    ):  # fmt: skip
        assert part in message
    assert "\n" not in message
    assert left_over(tmp_path) == ["config.json"]  # the companion of the liar, which has no hash
    got = ensure(replace(MODEL, sources=(*bad, *MODEL.sources)), tmp_path)
    assert (got.path.read_bytes(), got.source) == (WEIGHTS, f"owls/owlnet@{COMMIT}")


@pytest.mark.parametrize(("page", "reason"), [(b"<html>log in</html>", "Expecting value|JSON"), (b"", "refused")])
def test_the_host_that_does_not_serve_is_named(server, tmp_path, monkeypatch, page, reason):
    """A log-in page in place of the hub, and nobody at all."""
    server.page = page
    host = server.url if page else "http://127.0.0.1:9"
    monkeypatch.setenv("HF_ENDPOINT", host)
    with pytest.raises(UserError, match=rf"could not be downloaded \(owls/owlnet@{COMMIT}: {host}: .*({reason})"):
        ensure(MODEL, tmp_path)
    assert not left_over(tmp_path)


def test_a_listed_path_cannot_leave_the_folder(server, tmp_path):
    server.repositories["owls/evil"] = {"../../../x/epoch_latest.pt": WEIGHTS}
    model = replace(MODEL, companions=(), sources=(Source("owls/evil", "*epoch_latest.pt"),))
    with pytest.raises(UserError, match=r"there is no \*epoch_latest.pt"):
        ensure(model, tmp_path / "a/b/c")
    assert not left_over(tmp_path)


def test_without_a_network_the_place_for_the_file_is_told_and_taken(server, tmp_path, monkeypatch):
    monkeypatch.setenv("BEATS_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as error:
        ensure_checkpoint()
    place = tmp_path / "BEATs_iter3_plus_AS2M" / "BEATs_iter3_plus_AS2M.pt"
    assert f"put it at {place}" in str(error.value)
    assert not server.requests
    place.parent.mkdir()
    place.write_bytes(b"not it")
    with pytest.raises(UserError, match="d43cbfad4d7b5638"):
        beats_jax.ensure_checkpoint()
    folder = tmp_path / "owlnet"
    folder.mkdir()
    (folder / "owlnet.pt").write_bytes(WEIGHTS)
    with pytest.raises(UserError, match=f"put it at {folder}/config.json, or"):
        ensure(MODEL)
    (folder / "config.json").write_bytes(CONFIG)
    assert ensure(MODEL).source == "put there by hand"
    with pytest.raises(UserError, match="without a browser, see https://github"):
        ensure_checkpoint("Tokenizer_iter3", offline=False)


def start_process(cache):
    """Another process that downloads `MODEL` and prints its hash."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from test_download import MODEL; "
        "from beats_jax.weights.download import ensure; print(ensure(MODEL, sys.argv[3]).sha256)"
    )
    here = os.path.dirname(__file__)
    command = [sys.executable, "-c", code, here, os.path.dirname(os.path.dirname(here)), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_download_once(server, tmp_path):
    server.delay = 0.6
    running = [start_process(tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in running]
    assert [out.strip() for out, _ in outputs] == [sha256(WEIGHTS)] * 2, outputs
    assert (len(server.gets("owlnet.pt")), len(server.gets("config.json"))) == (1, 1)


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written.*BEATS_JAX_CACHE"):
        ensure(MODEL, tmp_path / "file")
    got = ensure(replace(MODEL, sha256=None), tmp_path)  # what is there is read and nothing written
    (got.path.parent / "origin.json").unlink()
    monkeypatch.setattr(os, "access", lambda *args, **kwargs: False)
    before = sorted(got.path.parent.iterdir())
    assert ensure(replace(MODEL, sha256=None), tmp_path).path == got.path
    assert sorted(got.path.parent.iterdir()) == before


def test_a_full_disk_leaves_nothing(server, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.HfApi, "hf_hub_download", full)
        with pytest.raises(UserError, match="the disk is full"):
            ensure(MODEL, tmp_path)
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=1))
    with pytest.raises(UserError, match=r"the disk is full.*BEATS_JAX_CACHE"):
        ensure(MODEL, tmp_path)
    assert not left_over(tmp_path)
    assert not server.gets("config.json")


def test_the_token_of_the_user_is_sent(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    ensure(MODEL, tmp_path)
    assert {token for *_, token in server.requests} == {"Bearer secret"}


def test_a_name_is_loaded_with_its_source_and_licence(server, tmp_path, monkeypatch, golden_files):
    content = (golden_files / "tiny_finetuned.pt").read_bytes()
    tiny = {"encoder_layers": 2, "encoder_embed_dim": 64}
    entry = replace(
        MODEL, bytes=None, sha256=None, companions=(), classes=7, licence="CC-BY-NC-SA-4.0", fields=tiny,
        sources=(Source(repository="owls/tiny", file="tiny.pt"),),
    )  # fmt: skip
    server.repositories["owls/tiny"] = {"tiny.pt": content}
    monkeypatch.setenv("BEATS_JAX_CACHE", str(tmp_path))
    names = {"owlnet": entry, "wrong": replace(entry, name="owlnet", fields={"encoder_layers": 12})}
    for module in (pretrained, published):
        monkeypatch.setattr(module, "registry", lambda: names)
    pretrained._warn_of_licence.cache_clear()
    with pytest.warns(LicenceWarning, match="CC-BY-NC-SA-4.0: no commercial use") as caught:
        model = beats_jax.load("owlnet")
    assert caught[0].filename == __file__
    assert (model.source, model.licence) == (f"owlnet (owls/tiny@{COMMIT})", "CC-BY-NC-SA-4.0")
    assert model.source_sha256 == sha256(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pretrained.read_checkpoint("owlnet")
    with pytest.raises(UserError, match="encoder_layers is 2, not 12"):
        pretrained.read_checkpoint("wrong")
    with pytest.raises(UserError, match="did you mean 'owlnet'"):
        pretrained.read_checkpoint("owlnett")


def test_the_registry_is_whole():
    models = beats_jax.list_available_models()
    official = [name for name in models if name.startswith("BEATs_iter")]
    assert len(official) == 15
    assert all(re.fullmatch(r"[0-9a-f]{64}", models[name]["sha256"]) for name in official)
    assert models["BEATs_iter3_plus_AS2M"]["sha256"].startswith("d43cbfad4d7b5638")
    assert models["openbeats"]["alias_of"] == "OpenBEATs-Base-i3"
    assert len([name for name in models if name.startswith("ast-")]) == 8
    assert len([name for name in models if name.startswith("EAT-")]) == 4
    for name, facts in models.items():
        known = {f.name for f in fields(MODEL_FAMILIES[facts["family"]])}
        assert set(facts["fields"]) <= known, name
        assert facts["returns"] in ("features", "codes", "sigmoid", "softmax", None)
        assert facts["classes"] is None or (facts["classes"] > 0) == (facts["returns"] not in ("features", "codes"))
        for source in facts["sources"]:
            assert source["revision"] is None or re.fullmatch(r"[0-9a-f]{40}", source["revision"])


def test_the_page_of_weights_is_current():
    docs = Path(__file__).parents[2] / "docs"
    page = runpy.run_path(str(docs / "weights_page.py"))["weights_page"]()
    assert (docs / "weights.md").read_text(encoding="utf-8") == page, "run: python docs/weights_page.py"
    assert all(f"| `{name}` |" in page for name in beats_jax.list_available_models())


def test_the_registry_prints_as_a_table():
    models = beats_jax.list_available_models()
    lines = str(models).splitlines()
    assert len(lines) == 1 + len(models)
    assert lines[0].split()[:3] == ["name", "architecture", "Hz"]
    (line,) = [line for line in lines if line.startswith("BEATs_iter3_plus_AS2M ")]
    assert line.split() == ["BEATs_iter3_plus_AS2M", "BEATs", "base", "16000", "768", "0", "361", "MIT"]
    starts = {line.index(models[line.split()[0]]["architecture"]) for line in lines[1:]}
    assert starts == {lines[0].index("architecture")}  # one column, one place


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("ast-finetuned-audioset-10-10-0.4593", "huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593"),
        ("BEATs_iter3_plus_AS2M", "huggingface.co/datasets/Bencr/beats-checkpoints"),
        ("BEATs_iter1_finetuned_on_AS2M_cpt1", "github.com/microsoft/unilm/tree/master/beats"),  # no other place is known
    ],
)
def test_without_a_network_the_page_that_has_the_file_is_named(tmp_path, name, host):
    with pytest.raises(UserError) as error:
        beats_jax.ensure_checkpoint(name, cache_dir=tmp_path, offline=True)
    assert f"get it from https://{host} and put it at" in str(error.value)
