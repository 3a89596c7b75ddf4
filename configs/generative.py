"""Train a generator of spectrograms of each class: a VAE, an AAE, an AE, a GAN or a diffusion model.

Command:  python -m beats_jax.train --config configs/generative.py:vae --config.data.root=recordings --workdir runs/vae
          configs/generative.py:diffusion,2000      low sounds: read at 2000 Hz, windows of 2 s, 64 bins from 8 to 508 Hz
          --config.objective.image.frames=128       larger images; bands and frames are multiples of 16
          --config.objective.width=32               a larger network; --config.training.max_steps=5000 trains longer
Kinds:    vae, aae, ae (objective autoencoder), gan, diffusion; docs/generative.md compares them.
Data:     a folder with one folder per class, or a table as for configs/finetune.py. Without labels all is one class.
Leaves:   generator/ (`beats_jax.pipelines.generating.generator.load_generator` draws from it), sounds/ (WAV), report.html.
"""

from ml_collections import ConfigDict

from beats_jax.errors import UserError
from beats_jax.pipelines.generating.recipes import RECIPES, recipe_settings

WINDOW = 4000  # samples of a window where a rate is given: 2 s at 2 kHz


def get_config(words: str = "vae") -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config; `words`: a kind, and a rate in Hz to read low sounds at."""
    kind, _, rate = words.partition(",")
    if kind not in RECIPES or (rate and (not rate.isdecimal() or int(rate) == 0)):
        raise UserError(f"configs/generative.py:{words} is unknown; give a kind ({', '.join(RECIPES)}) and, if any, a rate in Hz")
    settings = {"name": "generative", **recipe_settings(kind)}
    if rate:
        hz = int(rate)
        settings["audio"] = {"filterbank": {"sample_rate": hz}}
        settings["data"]["window_seconds"] = WINDOW / hz
        settings["objective"]["image"] = {"scale": "linear", "low_hz": hz / 250}
    return ConfigDict(settings)
