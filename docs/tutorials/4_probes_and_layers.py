# %% [markdown]
# # 4. Probes and layers
# With a handful of labels do not train an encoder: put a small classifier on its vectors. Which layer, which pooling, how much
# regularisation? Guessing costs many points, and choosing by the test clips flatters. `evaluate --probe` tries all of them in one
# compiled call, lets inner folds choose, and measures the choice on clips that had no part in it.

# %%
import json
from pathlib import Path

from offline import esc50_folder, small_encoder

from beats_jax.evaluate import main as evaluate

encoder, data = small_encoder(), esc50_folder()

# %% [markdown]
# ## Probe
# `--baseline fbank,random` measures two things beside: logistic regression on the mean and deviation of the filterbank, and the
# same encoder with random weights. An encoder that does not beat them has learnt nothing that you need.
# ```
# python -m beats_jax.evaluate --probe BEATs_iter3_plus_AS2M --data labels.csv --output probe --baseline fbank,random
# ```

# %%
if not Path("runs/probe_report").exists():
    arguments = ["--probe", encoder, "--data", str(data), "--output", "runs/probe_report", "--baseline", "fbank,random"]
    arguments += ["--probe-kinds", "logistic,knn", "--window-seconds", "1", "--cache", "runs/embeddings"]
    assert evaluate(arguments) == 0

# %% [markdown]
# ## What it found
# `report.html` has the heat map of layers and poolings; `metrics.json` the figures with intervals.

# %%
metrics = json.loads(Path("runs/probe_report/metrics.json").read_text())
for name, value in metrics.items():
    if name.endswith("accuracy") and value is not None:
        print(f"{name:>28} {value:.3f} [{metrics[name + '_low']:.3f}, {metrics[name + '_high']:.3f}]")

# %% [markdown]
# ## And then
# The vectors are kept (`--cache`): another kind of probe on the same clips takes seconds. The attentive probe reads all tokens of one
# layer instead of their mean, and often gets more out of a transformer: `--probe-kinds attentive --token-layer 1`. When a probe is
# not enough, go on with `mode="lora"` (tutorial 2).
