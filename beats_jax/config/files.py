"""Config files by path or by name: those that come with the package are found from anywhere."""

from __future__ import annotations

from pathlib import Path

from beats_jax.config.validation import nearest
from beats_jax.errors import UserError

PACKAGE = Path(__file__).parent.parent


def config_folder() -> Path:
    """Where the recipes lie: in the installed package, or beside it in a checkout."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """Names that `--config` takes, such as quickstart."""
    return sorted(path.stem for path in config_folder().glob("*.py"))


def config_path(config: str) -> Path:
    """The file that `config` means: an existing path first, else a recipe (`quickstart`, with or without `configs/` and `.py`).

    Raises:
      UserError: neither; names the recipe that resembles it, and all others.
    """
    if Path(config).is_file():
        return Path(config)
    names, path = config_names(), Path(config)
    if path.parent.as_posix() in (".", "configs") and path.suffix in ("", ".py") and path.stem in names:
        return config_folder() / f"{path.stem}.py"
    resembles = nearest(path.stem, names)
    every = "" if resembles.startswith("known") else f" known: {', '.join(names)};"
    raise UserError(
        f"config {config!r} does not exist; {resembles};{every} or give the path of a Python file with a function get_config()"
    )
