"""Makes this folder from the full one, whose numbers the published implementations computed.

    python tests/golden/make.py FULL_FOLDER [OUTPUT_FOLDER]

FULL_FOLDER holds `golden/` (arrays and weights) and `data/` (recordings). Of the arrays only those that a test reads are kept, as
float32, of some only the first clips; weights and lists of keys are copied. Of the recordings the smallest file of three classes
in two folds of ESC-10 and the first soundscape are kept. The same input gives the same arrays each time; bytes of a .npz
depend on the version of zlib.
"""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

BEATS = (
    *("fbank_normalised", "fbank_padding_mask", "padding_mask_samples", "mask_patch_padding_mask", "pos_bias_HTT"),
    *("nomask_patch_embedding", "*mask_encoder_layer_norm", "*mask_layer?_out_TBC", "*mask_output", "allfalse_output"),
)
ARRAYS = {  # file: patterns of the names of its arrays
    "ast_pos_embed": ("*",),
    "ast_tiny_hf": ("waveform*", "input_values*", "hidden_state_?", "last_hidden_state", "pooled", "logits*"),
    "ast_tiny_orig": ("input", "tokens_plus_pos", "block?_out", "norm_out", "logits"),
    "bdl_losses": ("opt_*",),
    "eat_tiny": ("*_fbank", "*_pre_norm_out", "*_layer?_out", "*_output", "short_layer?_*", "padmask_*", "frontend_[wn]*"),
    "eat_tiny_finetuned": ("*_fbank", "short_output", "*_cls", "*_logits", "full_logits_mean_pooling"),
    "eat_tiny_pretrain": (
        *("fbank", "mask", "mask_tokens", "ids_keep", "student_out", "decoder_in", "decoder_out", "teacher_targets"),
        *("sample_size", "*_loss_sum", "total_loss_*", "*_var", "grad/*", "ema_*", "blockmask_64x8_*"),
    ),
    "fewshot_scores": ("*",),
    "fbank_parity": ("waveform", "fbank_*_normalised", "fbank_np64_raw"),
    "mel_hpss": ("clip_int16", "waveform_*", "v?_mel", "v?_harmonic", "v?_percussive", "v?_image"),
    "quantizer_train": ("*",),
    "rel_pos_buckets": ("*",),
    "resnet_tiny": ("*",),
    "tiny_deepnorm": BEATS,
    "tiny_finetuned": ("waveform", *BEATS),
    "tiny_plain": ("waveform", *BEATS),
    "tiny_tokenizer": (
        *("waveform", "fbank_normalised", "padding_mask_samples", "*_labels_flat"),
        *("*_quantize_*", "*_embed_loss", "cluster_size_*"),
    ),
}
CLIPS = {("ast_tiny_orig", "*"): 2, ("eat_tiny", "full_*"): 1, ("eat_tiny_finetuned", "full_*"): 1}  # the first ones; else all
EVERY_FRAME = 8  # of mel_hpss: one column in so many
SECONDS = 1.0  # of fbank_parity: the last ones
WEIGHTS = ("*.pt", "*.safetensors", "*.json")
# Weights that the package holds for `doctor`, byte for byte: their name here and there. tests/conftest.py puts them together.
IN_PACKAGE = {
    "tiny_finetuned.pt": "beats_fine_tuned.pt",
    "tiny_tokenizer.pt": "beats_tokenizer.pt",
    "eat_tiny_finetuned.pt": "eat_fine_tuned.pt",
    "ast_tiny_hf.safetensors": "ast_hugging_face/model.safetensors",
}
CATEGORIES, FOLDS, SOUNDSCAPES = ("dog", "rooster", "sneezing"), ("1", "2"), 1


def make(full: Path, output: Path) -> None:
    """Writes arrays, weights and recordings; raises FileNotFoundError where `full` lacks one."""
    output.mkdir(parents=True, exist_ok=True)
    for name, patterns in ARRAYS.items():
        arrays = np.load(full / "golden" / f"{name}.npz")
        kept = [key for key in arrays.files if any(fnmatchcase(key, pattern) for pattern in patterns)]
        np.savez_compressed(output / f"{name}.npz", **{key: _trim(name, key, arrays) for key in kept})
    for pattern in WEIGHTS:
        for file in sorted((full / "golden").glob(pattern)):
            if file.name not in IN_PACKAGE:
                shutil.copyfile(file, output / file.name)
    _copy_esc10(full / "data" / "esc10", output / "recordings" / "esc10")
    (output / "recordings" / "soundscapes").mkdir(parents=True, exist_ok=True)
    for file in sorted((full / "data" / "soundscapes").glob("*.flac"))[:SOUNDSCAPES]:
        shutil.copyfile(file, output / "recordings" / "soundscapes" / file.name)


def _trim(name: str, key: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    values = arrays[key]
    if name == "fbank_parity":  # frames do not depend on each other, so the last ones are those of the last samples
        frame = (len(arrays["waveform"]) - round(SECONDS * 16_000)) // 160
        values = values[frame * 160 :] if key == "waveform" else values[frame:]
    if name == "mel_hpss" and key.startswith("v"):
        values = values[..., ::EVERY_FRAME]
    for (file, pattern), clips in CLIPS.items():
        if file == name and fnmatchcase(key, pattern) and values.ndim > 1:
            values = values[:clips]
    return values.astype(np.float32) if values.dtype == np.float64 and values.ndim else values


def _copy_esc10(source: Path, output: Path) -> None:
    with open(source / "meta" / "esc50.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shortest: dict[tuple[str, str], dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: ((source / "audio" / row["filename"]).stat().st_size, row["filename"])):
        if row["fold"] in FOLDS and row["category"] in CATEGORIES:
            shortest.setdefault((row["fold"], row["category"]), row)
    kept = sorted(shortest.values(), key=lambda row: row["filename"])
    for folder in ("audio", "meta"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    with open(output / "meta" / "esc50.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    for row in kept:
        shutil.copyfile(source / "audio" / row["filename"], output / "audio" / row["filename"])


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    make(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent)
