"""All settings are in pyproject.toml, which cannot name packages both by search and by hand: `configs/` is one by hand."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["beats_jax*"]), "beats_jax.configs"],
    package_dir={"beats_jax.configs": "configs"},  # `--config quickstart` finds the recipes wherever the package is installed
)
