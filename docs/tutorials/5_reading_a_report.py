# %% [markdown]
# # 5. Reading a report
# A run leaves `report.html` to read and attach, and the numbers behind it as files. This tutorial takes them apart.

# %%
import csv
import json
from pathlib import Path

import numpy as np
from offline import small_encoder

from beats_jax.evaluate import main as evaluate
from beats_jax.evaluation.metrics.classification import Evaluator
from beats_jax.evaluation.predictions import read_predictions

run = Path(small_encoder())
print(sorted(path.name for path in run.iterdir()))

# %% [markdown]
# ## predictions.csv: one row per clip
# `file,start,end,label,prediction` and a probability for every class. All figures can be computed again from it.

# %%
table = read_predictions(run / "predictions.csv")
labels = np.array([table.class_names.index(label) for label in table.labels])
accuracy = float(np.mean(table.probabilities.argmax(axis=1) == labels))
metrics = json.loads((run / "metrics.json").read_text())
print(f"accuracy by hand {accuracy:.4f}, in metrics.json {metrics['accuracy']:.4f}")
assert abs(accuracy - metrics["accuracy"]) < 1e-9

# %% [markdown]
# ## The interval
# 95 % of 10,000 resamples: recordings are drawn with replacement, whole (clips of one recording are no independent witnesses; which
# belong together is in recordings.csv), and the figure is computed each time. With few recordings it is wide, and that is the truth.

# %%
recordings = np.array((run / "recordings.csv").read_text().split()[1:], int)
names = np.unique(recordings)
evaluator = Evaluator(labels, table.probabilities, multi_label=False)
random = np.random.default_rng(0)
drawn = []
for _ in range(500):
    counts = np.bincount(random.integers(0, len(names), len(names)), minlength=len(names))
    weights = counts[np.searchsorted(names, recordings)].astype(float)
    drawn.append(float(evaluator.metrics(weights).overall["accuracy"]))
low, high = np.percentile(drawn, (2.5, 97.5))
print(f"by hand [{low:.3f}, {high:.3f}], in metrics.json [{metrics['accuracy_low']:.3f}, {metrics['accuracy_high']:.3f}]")
assert abs(low - metrics["accuracy_low"]) < 0.15

# %% [markdown]
# ## Which weights
# With validation and test rows two figures stand side by side: the last epoch, and the epoch that validation chose. Neither was
# chosen by test rows. (Picking the best test epoch, as some published code does, flatters.)

# %%
for way in ("last_epoch", "selected"):
    print(f"{way:>10}: step {metrics[way + '_step']}, accuracy {metrics[way + '_accuracy']:.3f}")

# %% [markdown]
# ## Calibration and thresholds
# Does 0.8 mean right in 80 % of the cases? ECE is the mean gap; the temperature, fitted on validation rows, closes most of it. A
# class's own threshold is chosen there too: for the best F1, or for a precision or recall that you want
# (`--config.evaluation.threshold_goal=precision --config.evaluation.threshold_wanted=0.9`).

# %%
point = json.loads((run / "operating_point.json").read_text())
print(f"temperature {point['temperature']:.2f}; ECE {metrics['ece']:.3f}, after it {metrics['ece_calibrated']:.3f}")
print(dict(zip(point["class_names"], point["thresholds"], strict=True)))

# %% [markdown]
# ## The same as Markdown, and on other recordings
# `--format md` writes RESULTS.md for a repository; `--data` takes another folder or table: an honest test is another site.

# %%
if not Path("runs/again").exists():
    assert evaluate(["--run", str(run), "--output", "runs/again", "--format", "md"]) == 0
print(Path("runs/again/RESULTS.md").read_text()[:600])

# %% [markdown]
# ## Bad files
# Nothing vanishes: what could not be read is in errors.csv with the reason, and counted in the report.

# %%
with (run / "errors.csv").open(newline="") as file:
    print(list(csv.DictReader(file)))
