# %% [markdown]
# # 1. Features: sounds into vectors
# An encoder turns a recording of any length into a vector. Near vectors are sounds that the encoder takes for alike; with a few
# lines you search, cluster, or train a small classifier on them, without training the encoder at all.
#
# Every tutorial is a script (`python docs/tutorials/1_features.py`) and opens as a notebook in VS Code, PyCharm or Jupytext.

# %%
import numpy as np
from offline import recordings, small_encoder

from beats_jax import BEATsFeatureExtractor
from beats_jax.datasets import load_csv_dataset, validate_dataset

# %% [markdown]
# ## Look at the data first
# `load_csv_dataset` (and `scan_directory_dataset` for folders) gives a table with absolute file names; `validate_dataset` makes
# the checks that training makes: missing and damaged files, duplicates, classes with a single example.

# %%
table = load_csv_dataset(recordings(), label_col="label")
print(table["category"].value_counts())
report = validate_dataset(table)
print("errors:", report["errors"], "warnings:", report["warnings"])

# %% [markdown]
# ## Extract
# With a network `BEATsFeatureExtractor()` fetches BEATs once. Here it is a small encoder trained a minute ago.

# %%
extractor = BEATsFeatureExtractor(small_encoder(), pooling="mean")
files = table["filename"].tolist()
vectors = extractor.extract_from_files(files)
print(vectors.shape, vectors.dtype, extractor.get_feature_dim())

# %% [markdown]
# A clip gives the same vector alone and in a batch: padding never counts.

# %%
alone = extractor.extract_from_file(files[0])
print("largest difference:", np.abs(alone - vectors[0]).max())
assert np.abs(alone - vectors[0]).max() < 1e-4

# %% [markdown]
# ## Search
# The nearest other sounds of every clip, by the cosine of the angle between vectors.

# %%
unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
similarity = unit @ unit.T
np.fill_diagonal(similarity, -1)
nearest = similarity.argmax(axis=1)
kinds = table["category"].to_numpy()
print(f"the nearest sound is of the same kind for {np.mean(kinds[nearest] == kinds):.0%} of the clips (chance 23 %)")

# %% [markdown]
# ## Other layers and poolings
# The last layer is not always the best one (tutorial 4 measures that), and a short call in a long file is better kept by the
# maximum than by the mean.

# %%
for layer in range(3):
    for pooling in ("mean", "max"):
        other = BEATsFeatureExtractor(extractor.model, pooling=pooling, layer=layer).extract_from_files(files)
        print(f"layer {layer}, {pooling}: {other.std(axis=0).mean():.3f} mean standard deviation over clips")

# %% [markdown]
# A file that cannot be read stops with its name and the reason; `on_error="nan"` keeps its row, as NaN, and the reason.

# %%
careful = BEATsFeatureExtractor(extractor.model, on_error="nan")
found = careful.extract_from_files([files[0], "gone.wav"])
print(np.isnan(found).all(axis=1), careful.errors)
