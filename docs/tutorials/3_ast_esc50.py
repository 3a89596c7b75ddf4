# %% [markdown]
# # 3. AST on ESC-50
# The Audio Spectrogram Transformer (Gong et al. 2021) reads a spectrogram as a picture cut into overlapping patches. The recipe
# `configs/ast_esc50.py` is the published one; `:two_epochs` stops after two.
#
# ## How a transformer hears
# A recording becomes a mel spectrogram: 128 bands, a frame every 10 ms. Patches of 16 x 16, one every 10 bands and 10 frames, become
# tokens; two more (CLS, DIST) collect what the head reads. In every layer each token looks at all others and takes from them what its
# attention weighs high: a bark in the first second can so be read together with one in the fourth. Normalisation makes levels
# comparable: mean and standard deviation of the training recordings, or the published ones.

# %%
import json
from pathlib import Path

import jax
import numpy as np
from offline import esc50_folder

from beats_jax.audio.filterbank import ast_filterbank
from beats_jax.audio.io import read
from beats_jax.evaluation.predictions import read_predictions
from beats_jax.train import main as train

root = esc50_folder()

# %% [markdown]
# ## From a file to the input of the model
# Decoded, mixed to one channel, resampled to 16 kHz; then the filterbank, padded or cut to one number of frames.

# %%
clip = sorted((root / "audio").iterdir())[0]
waveform = read(clip, sample_rate=16_000)
fbank = jax.jit(ast_filterbank)(waveform[None])
print(waveform.shape, "->", fbank.shape, f"mean {float(np.mean(fbank)):.2f}, standard deviation {float(np.std(fbank)):.2f}")

# %% [markdown]
# ## Fine-tune two epochs
# With ESC-50 on disk and a network:
# ```
# python -m beats_jax.train --config configs/ast_esc50.py:two_epochs --config.data.root=ESC-50-master --config.data.fold=1
# ```
# Here: generated clips, random weights and a tiny AST, so that it takes seconds; the numbers say nothing.

# %%
config = Path(__file__).resolve().parents[2] / "configs" / "ast_esc50.py"
tiny = {
    "model.hidden_size": 32, "model.num_hidden_layers": 2, "model.num_attention_heads": 4, "model.intermediate_size": 64,
    "model.max_length": 96, "audio.filterbank.target_frames": 96, "data.window_seconds": 1.0, "data.batch_size": 8,
    "data.statistics": "training", "training.learning_rate": 1e-3,
}  # fmt: skip
arguments = [f"--config.{key}={value}" for key, value in tiny.items()]
status = train(["--config", f"{config}:two_epochs,random", f"--config.data.root={root}", "--workdir", "runs/ast", *arguments])
assert status == 0

# %% [markdown]
# ## Precision, recall, F1; best and worst classes; confusions
# All of it is in `runs/ast/report.html` with intervals, pictures and sound. The numbers behind it:

# %%
metrics = json.loads(Path("runs/ast/metrics.json").read_text())
for name in ("accuracy", "precision_macro", "recall_macro", "f1_macro", "mAP"):
    print(f"{name:>16} {metrics[name]:.3f} [{metrics[name + '_low']:.3f}, {metrics[name + '_high']:.3f}]")

# %%
table = read_predictions("runs/ast/predictions.csv")
wrong = [(label, given) for label, given in zip(table.labels, table.predictions, strict=True) if label != given]
for pair in sorted(set(wrong), key=wrong.count, reverse=True)[:3]:
    print(f"{pair[0]} taken for {pair[1]}: {wrong.count(pair)} times")

# %% [markdown]
# All five folds, in which every clip is predicted by a model that has not heard it: `--config.data.fold=all`. Groups of classes in
# the report: `--config.evaluation.class_groups="('esc50','nature')"`, the five categories of ESC-50 and birds, water, wind, mammals.
