"""`python -m beats_jax.embed`: embeddings of recordings of any number and length, as Parquet; resumes where it was stopped."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from beats_jax.command_line import ArgumentParser, add_grid_arguments, add_process_arguments, run_verb, start_processes
from beats_jax.config.schema import ATTENTIONS
from beats_jax.errors import UserError

EXAMPLES = """
examples:
  python -m beats_jax.embed --input recordings --model filterbank --output embeddings
  python -m beats_jax.embed --input recordings --model BEATs_iter3_plus_AS2M --output embeddings --window 5 --hop 2.5
  python -m beats_jax.embed --input a.wav b.flac --model runs/owls --output embeddings --layer 6 -1 --pooling mean std --logits
  python -m beats_jax.embed --input recordings --model filterbank --output embeddings --hoplite perch
  python -m beats_jax.embed --repair perch --output embeddings

The same command again resumes a killed one, and adds recordings that are new in the folder. pandas, duckdb and R read
OUTPUT/embeddings as one table: pandas.read_parquet("OUTPUT/embeddings").
"""


def parser() -> ArgumentParser:
    """The verb's arguments."""
    description = "Embed recordings window by window; writes OUTPUT/embeddings/part-*.parquet, embed.json and errors.csv."
    result = ArgumentParser("embed", description, EXAMPLES)
    result.add_argument("--input", nargs="+", metavar="DIR_OR_FILE", help="folders (with all below them), files")
    result.add_argument(
        "--model",
        default="filterbank",
        metavar="NAME",
        help="registered name, file, model folder or run; filterbank needs none",
    )
    result.add_argument("--output", type=Path, metavar="DIR", help="folder of the embeddings, new or to resume")
    result.add_argument(
        "--hoplite", type=Path, metavar="DB", help="Perch-Hoplite database to bring up to the output; made where there is none"
    )
    result.add_argument("--hoplite-column", metavar="NAME", help="which embedding it takes, where the output has several")
    result.add_argument(
        "--repair",
        type=Path,
        metavar="DB",
        help="only repair a Perch-Hoplite database; vectors that it lacks are taken from --output, or their windows removed",
    )
    add_grid_arguments(result)
    result.add_argument(
        "--layer",
        nargs="+",
        type=int,
        default=[-1],
        metavar="N",
        help="-1 = the features; 0 = before the first block, 1 = after it",
    )
    result.add_argument(
        "--pooling", nargs="+", default=["mean"], metavar="NAME", help="mean max first last std cls; one or several"
    )
    result.add_argument("--logits", action="store_true", help="keep the logits of the model's head beside")
    result.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the computation; auto = the machine's own",
    )
    result.add_argument(
        "--attention",
        choices=ATTENTIONS,
        default="auto",
        help="auto = all scores at once, by blocks from 1,536 tokens (31 s for BEATs); cudnn, kernel: GPUs",
    )
    result.add_argument("--keep", choices=("float32", "float16"), default="float32", help="type of the embeddings on disk")
    result.add_argument("--batch-size", type=int, metavar="N", help="windows computed at once (default: by the device)")
    result.add_argument("--threads", type=int, default=4, metavar="N", help="recordings decoded at once (default: 4)")
    result.add_argument("--strict", action="store_true", help="stop at the first unusable file; else errors.csv lists it")
    add_process_arguments(result)
    return result


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, embeds the recordings and returns the exit status."""
    arguments = parser().parse_args(argv)
    if arguments.repair is not None:
        if arguments.input or arguments.hoplite:
            raise UserError("--repair goes without --input and --hoplite; repair the database first, then add to it")
        from beats_jax.pipelines.hoplite import repair

        for line in repair(arguments.repair, arguments.output, arguments.hoplite_column):
            print(line, flush=True)
        return 0
    if not arguments.input or arguments.output is None:
        raise UserError("--input and --output are needed; python -m beats_jax.embed --help shows examples")
    if arguments.hoplite_column and arguments.hoplite is None:
        raise UserError("--hoplite-column has no use without --hoplite")
    start_processes(arguments)

    from beats_jax.pipelines.embed import EmbedSettings, embed

    settings = EmbedSettings(
        inputs=tuple(arguments.input),
        model=arguments.model,
        window_seconds=arguments.window,
        hop_seconds=arguments.hop,
        tail=arguments.tail,
        layers=tuple(arguments.layer),
        poolings=tuple(arguments.pooling),
        logits=arguments.logits,
        dtype=arguments.dtype,
        attention=arguments.attention,
        keep=arguments.keep,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        hoplite=arguments.hoplite,
        hoplite_column=arguments.hoplite_column,
    )
    embed(settings, arguments.output, strict=arguments.strict, command="python -m beats_jax.embed " + shlex.join(argv))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    return run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
