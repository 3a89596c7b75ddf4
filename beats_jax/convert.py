"""`python -m beats_jax.convert`: checkpoints from PyTorch to ours and back, and to one portable program; recordings to TFDS."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from beats_jax.command_line import ArgumentParser, apply_overrides, run_verb
from beats_jax.config import Experiment
from beats_jax.errors import UserError

EXAMPLES = """
examples:
  python -m beats_jax.convert BEATs_iter3_plus_AS2M.pt beats.safetensors     to our format (beats.json beside it)
  python -m beats_jax.convert runs/owls owls.pt                              a model trained here, back to PyTorch
  python -m beats_jax.convert runs/owls owls.safetensors --published-keys    the same as safetensors
  python -m beats_jax.convert runs/owls --export owls.stablehlo              one file that runs with jax and flatbuffers alone
  python -m beats_jax.convert --inspect owls.pt                              what a file holds
  python -m beats_jax.convert --list                                         the checkpoints known by name
  python -m beats_jax.convert recordings shared/owls --to tfds               recordings as the TFDS data set "owls"
  python -m beats_jax.convert labels.csv shared/owls --to tfds --config.data.label_column=species

INPUT is a registered name, a file, a model folder or a run. The keys decide the family, which is printed.
With --to tfds INPUT holds labelled recordings (class folders, a CSV table, ESC-50, UrbanSound8K), and settings of training
say how to read them; OUTPUT/1.0.0 is then a folder of array_record files for tfds.data_source.
"""


def parser() -> ArgumentParser:
    """The verb's arguments."""
    description = "Convert a checkpoint between published layouts and ours, without PyTorch, or to one portable program."
    result = ArgumentParser("convert", description, EXAMPLES)
    result.add_argument("input", nargs="?", metavar="INPUT", help="registered name, file, model folder or run")
    result.add_argument(
        "output", nargs="?", type=Path, metavar="OUTPUT", help=".pt = published layout; .safetensors or a folder = our format"
    )
    result.add_argument("--published-keys", action="store_true", help="write a .safetensors OUTPUT under the published key names")
    result.add_argument("--to", choices=("tfds",), metavar="tfds", help="write the recordings of INPUT as a TFDS data set")
    result.add_argument("--export", type=Path, metavar="FILE", help="write the model as one program file in place of OUTPUT")
    result.add_argument(
        "--seconds", type=float, metavar="S", help="with --export: length of its clips (default: the model's, or 10)"
    )
    result.add_argument("--force", action="store_true", help="replace OUTPUT or FILE")
    result.add_argument("--inspect", metavar="FILE", help="print what a checkpoint holds and stop")
    result.add_argument("--list", action="store_true", help="print the registered checkpoints and stop")
    return result


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, converts or prints, and returns the exit status."""
    arguments, overrides = parser().parse_known_args(argv)
    if arguments.to:
        return _write_dataset(arguments, overrides)
    if overrides:
        raise UserError(f"unrecognized arguments: {' '.join(overrides)} (python -m beats_jax.convert --help shows how)")

    from beats_jax.pipelines.checkpoints import convert as conversion
    from beats_jax.weights.bundle import describe
    from beats_jax.weights.pretrained import read_checkpoint
    from beats_jax.weights.published import list_available_models

    if arguments.list:
        print(list_available_models())
    elif arguments.inspect:
        print("\n".join(describe(read_checkpoint(arguments.inspect))))
    elif arguments.export:
        if arguments.input is None or arguments.output or arguments.published_keys:
            raise UserError("--export FILE goes with INPUT alone (and --seconds, --force)")
        print("\n".join(conversion.export(arguments.input, arguments.export, seconds=arguments.seconds, force=arguments.force)))
    elif arguments.input is None or arguments.output is None or arguments.seconds is not None:
        raise UserError(
            "give INPUT and OUTPUT, or INPUT --export FILE, or --inspect FILE, or --list "
            "(python -m beats_jax.convert --help shows how)"
        )
    else:
        lines = conversion.convert(
            arguments.input, arguments.output, published_keys=arguments.published_keys, force=arguments.force
        )
        print("\n".join(lines))
    return 0


PLACES = ("input", "output", "to")


def _write_dataset(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    asked = vars(arguments)
    if not (asked["input"] and asked["output"]) or any(value for name, value in asked.items() if name not in PLACES):
        raise UserError("--to tfds goes with INPUT, OUTPUT and --config.data settings alone")
    experiment = apply_overrides(Experiment(), overrides)

    from beats_jax.pipelines.checkpoints.convert import write_dataset

    print("\n".join(write_dataset(Path(arguments.input), arguments.output, experiment)))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
