"""`python -m beats_jax.doctor`: compares this installation with results of the published code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from beats_jax.command_line import ArgumentParser, run_verb

EXAMPLES = """
examples:
  python -m beats_jax.doctor                            this machine and installation
  python -m beats_jax.doctor BEATs_iter3_plus_AS2M      and a model: finite, the same alone and in a batch, how fast
  python -m beats_jax.doctor runs/owls

Runs every family of encoders on the first device of each platform in float32 and bfloat16 and compares the results with numbers
of the published code in this package; needs no network. Exit status 0: all checks passed; 1: a result differs, and the last lines
name the family and the first layer that departs; 2: a mistake in the arguments.
"""


def parser() -> ArgumentParser:
    """The verb's arguments."""
    description = "Check the installation: devices, versions, parity with the published code, and a model where named."
    result = ArgumentParser("doctor", description, EXAMPLES)
    result.add_argument("model", nargs="?", metavar="MODEL", help="registered name, file, model folder or run to check as well")
    result.add_argument("--data", type=Path, metavar="DIR", help="golden files to use in place of the built-in ones")
    return result


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, prints the report and returns the exit status."""
    arguments = parser().parse_args(argv)

    from beats_jax.pipelines.checkpoints.doctor import diagnose

    lines, well = diagnose(arguments.model, arguments.data)
    print("\n".join(lines))
    return 0 if well else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 1 for a difference (or an error in beats_jax), 2 for a mistake of the user."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
