# %% [markdown]
# # 2. Fine-tuning on your own classes
# Three ways to learn from labelled clips, from the cheapest on: the head alone on a frozen encoder (`probe`), the head and small
# low-rank changes of the attention (`lora`), everything (`full`). Which is best depends on how much you have: measure it.

# %%
from pathlib import Path

from offline import recordings, small_encoder

from beats_jax import BEATsTrainer
from beats_jax.config import DataConfig, TrainingConfig
from beats_jax.pipelines.measuring.compare import compare_runs

# %% [markdown]
# ## Train
# `DataConfig` says where clips and labels are and how they are split; rows that share a group (a recording, a site) never fall on
# both sides. The same settings find the same folder again: a run that was stopped goes on, a finished one is read.

# %%
data = DataConfig(window_seconds=1.0, train_split=0.5, val_split=0.25, test_split=0.25)
encoder = small_encoder()
results = {}
for mode in ("probe", "lora", "full"):
    config = TrainingConfig(mode=mode, max_epochs=3, learning_rate=1e-3, batch_size=8, select="best")
    trainer = BEATsTrainer.from_csv(
        recordings(), label_column="label", data_config=data, config=config, model_path=encoder, workdir=f"runs/{mode}"
    )
    results[mode] = trainer.train()

# %%
for mode, found in results.items():
    print(
        f"{mode:>6}: accuracy {found['accuracy']:.2f} [{found['accuracy_low']:.2f}, {found['accuracy_high']:.2f}], {found['report']}"
    )

# %% [markdown]
# ## Is one really better?
# Two intervals that overlap do not answer that: both runs are hard-pressed by the same clips. The paired comparison does.

# %%
if not Path("runs/probe_against_full").exists():
    compare_runs(
        Path("runs/probe"), Path("runs/full"), Path("runs/probe_against_full"), command="docs/tutorials/2_fine_tuning.py"
    )

# %% [markdown]
# ## Use it
# Predictions for files without labels, and features of the fine-tuned encoder.

# %%
files = sorted(str(path) for path in Path("sounds/audio").iterdir())[:3]
print(trainer.predict(files).round(3).to_string())
print(trainer.extract_features(files).shape)

# %% [markdown]
# The command line does the same, on any number of GPUs:
# ```
# python -m beats_jax.train --config configs/finetune.py --config.data.root=recordings --config.training.mode=lora
# ```
# It starts from BEATs_iter3_plus_AS2M, or from `--config.model.checkpoint=NAME_OR_FILE`. Without a checkpoint `lora` and `probe`
# are refused: an encoder that has learnt nothing would stay as it began.
