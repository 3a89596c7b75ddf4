"""Makes beats_jax/pipelines/checkpoints/golden/, with which `python -m beats_jax.doctor` compares, from the large golden folder.

    python tests/pipelines/checkpoints/make_golden.py GOLDEN_FOLDER [OUTPUT_FOLDER]

GOLDEN_FOLDER holds what the published implementations computed on seeded random weights (its README says how). Of each model
one clip is kept: its filterbank and the published code's states, logits and so on. Weights are the published files as they
are; only tensors that no model reads (a pre-training decoder, unused heads) are left out, because they would double the size.
A recipe is run where `parity.CASES` or `parity.FRONT_ENDS` has a case of its name.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.files import sha256_of
from beats_jax.pipelines.checkpoints import parity
from beats_jax.weights.torch_file import read_torch_file
from beats_jax.weights.torch_writer import write_torch_file

Recipe = Callable[[Path, Path], Mapping[str, np.ndarray]]  # (golden folder, place of the weights) → arrays; writes the weights


def beats_fine_tuned(golden: Path, weights: Path) -> Mapping[str, np.ndarray]:
    shutil.copyfile(golden / "tiny_finetuned.pt", weights)
    arrays = np.load(golden / "tiny_finetuned.npz")
    outputs = [arrays["nomask_encoder_layer_norm"][0]] + [arrays[f"nomask_layer{i}_out_TBC"][:, 0] for i in range(2)]
    return {"fbank": arrays["fbank_normalised"][0], "layers": np.stack(outputs), "probabilities": arrays["nomask_output"][0]}


def beats_tokenizer(golden: Path, weights: Path) -> Mapping[str, np.ndarray]:
    shutil.copyfile(golden / "tiny_tokenizer.pt", weights)
    arrays = np.load(golden / "tiny_tokenizer.npz")
    fbank = arrays["fbank_normalised"]
    return {"fbank": fbank[0], "codes": arrays["nomask_labels_flat"].reshape(len(fbank), -1)[0].astype(np.int32)}


def eat_pretraining(golden: Path, weights: Path) -> Mapping[str, np.ndarray]:
    content = read_torch_file(golden / "eat_tiny.pt")
    unread = ("_ema", "modality_encoders.IMAGE.decoder.")
    model = {key: value for key, value in content["model"].items() if not key.startswith(unread)}
    write_torch_file(weights, {"cfg": content["cfg"], "model": model})
    arrays = np.load(golden / "eat_tiny.npz")
    outputs = [arrays["short_pre_norm_out"][0]] + [arrays[f"short_layer{i}_out"][0] for i in range(3)]
    return {"fbank": arrays["short_fbank"][0], "layers": np.stack(outputs)}


def eat_fine_tuned(golden: Path, weights: Path) -> Mapping[str, np.ndarray]:
    shutil.copyfile(golden / "eat_tiny_finetuned.pt", weights)
    arrays = np.load(golden / "eat_tiny_finetuned.npz")
    return {"fbank": arrays["short_fbank"][0], "features": arrays["short_output"][0], "logits": arrays["short_logits"][0]}


def ast_hugging_face(golden: Path, weights: Path) -> Mapping[str, np.ndarray]:
    weights.mkdir(exist_ok=True)
    shutil.copyfile(golden / "ast_tiny_hf.safetensors", weights / "model.safetensors")
    for name, facts in json.loads((golden / "ast_tiny_hf_config.json").read_text(encoding="utf-8")).items():
        (weights / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    arrays = np.load(golden / "ast_tiny_hf.npz")
    return {
        "fbank": arrays["input_values"][0],
        "layers": np.stack([arrays[f"hidden_state_{i}"][0] for i in range(4)]),
        "features": arrays["last_hidden_state"][0],
        "logits": arrays["logits"][0],
    }


# What the original code keeps in its program and not in the file (golden/README.md, section AST).
ORIGINAL_FACTS = {
    "config.json": {"num_attention_heads": 4, "frequency_stride": 10, "time_stride": 10, "max_length": 100},
    "preprocessor_config.json": {"mean": -4.2677393, "std": 4.5689974},
}


def ast_original(golden: Path, weights: Path) -> Mapping[str, np.ndarray]:
    content = read_torch_file(golden / "ast_tiny_orig.pt")
    unread = ("module.v.head.", "module.v.head_dist.")
    weights.parent.mkdir(exist_ok=True)
    for name, facts in ORIGINAL_FACTS.items():
        (weights.parent / name).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    write_torch_file(weights, {key: value for key, value in content.items() if not key.startswith(unread)})
    arrays = np.load(golden / "ast_tiny_orig.npz")
    outputs = [arrays["tokens_plus_pos"][0]] + [arrays[f"block{i}_out"][0] for i in range(3)]
    return {
        "fbank": arrays["input"][0],
        "layers": np.stack(outputs),
        "features": arrays["norm_out"][0],
        "logits": arrays["logits"][0],
    }


def front_end_beats(golden: Path) -> Mapping[str, np.ndarray]:
    arrays = np.load(golden / "fbank_parity.npz")
    first = (len(arrays["waveform"]) - 16_000) // 160  # the last second: it ends in digital silence
    fbank = arrays["fbank_np64_normalised"][first:].astype(np.float32)
    return {"waveform": arrays["waveform"][first * 160 :], "fbank": fbank}


def front_end_eat(golden: Path) -> Mapping[str, np.ndarray]:
    arrays = np.load(golden / "eat_tiny.npz")
    return {"waveform": arrays["frontend_waveform"], "fbank": arrays["frontend_normalised_audioset_len96"]}


def front_end_ast(golden: Path) -> Mapping[str, np.ndarray]:
    arrays = np.load(golden / "ast_tiny_hf.npz")
    waveform = arrays["waveform"][1, : arrays["waveform_lengths"][1]]
    return {"waveform": waveform, "fbank": arrays["input_values_numpy_fallback"][1]}


RECIPES: dict[str, Recipe] = {
    "beats_fine_tuned": beats_fine_tuned,
    "beats_tokenizer": beats_tokenizer,
    "eat_pretraining": eat_pretraining,
    "eat_fine_tuned": eat_fine_tuned,
    "ast_hugging_face": ast_hugging_face,
    "ast_original": ast_original,
}
FRONT_END_RECIPES: dict[str, Callable[[Path], Mapping[str, np.ndarray]]] = {
    "front_end_beats": front_end_beats,
    "front_end_ast": front_end_ast,
    "front_end_eat": front_end_eat,
}


def make(golden: Path, output: Path) -> None:
    """Writes weights and arrays of every case, and the manifest with the hash of every file."""
    output.mkdir(parents=True, exist_ok=True)
    for case in parity.CASES:
        _save(output / f"{case.name}.npz", RECIPES[case.name](golden, output / case.weights))
    for name in parity.FRONT_ENDS:
        _save(output / f"{name}.npz", FRONT_END_RECIPES[name](golden))
    (output / parity.MANIFEST).write_text(json.dumps(hashes(output), indent=2) + "\n", encoding="utf-8")


def hashes(folder: Path) -> dict[str, str]:
    """Path in the folder → sha256 of every golden file."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in (parity.MANIFEST, "README.md"))
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}


def _save(place: Path, arrays: Mapping[str, Any]) -> None:
    np.savez_compressed(place, **arrays)


if __name__ == "__main__":
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else parity.BUILT_IN
    for old in folder.glob("*"):
        if old.name != "README.md":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    make(Path(sys.argv[1]), folder)
    print(f"{sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()):,} bytes in {folder}")
