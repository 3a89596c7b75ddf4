"""Every published layout that is read: which one a file has, how it becomes a `Bundle`, and how a `Bundle` goes back.

A new layout is one function in its family's file and one entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from beats_jax.errors import UserError
from beats_jax.weights import ast_files, aves_files, beats_files, eat_files, eat_writer, espnet_files
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.raw import RawCheckpoint
from beats_jax.weights.upstream import Upstream


class Format(NamedTuple):
    """One published layout."""

    name: str  # as `convert` says it
    recognise: Callable[[RawCheckpoint], bool]  # by keys alone; at most one format may say yes to any file
    read: Callable[[RawCheckpoint], Bundle]  # strict


FORMATS: tuple[Format, ...] = (
    Format("BEATs, published layout {cfg, model}", beats_files.is_official, beats_files.read_official),
    Format("BEATs tokenizer, published layout {cfg, model}", beats_files.is_tokenizer, beats_files.read_tokenizer),
    Format("BEATs, ESPnet checkpoint", espnet_files.is_espnet, espnet_files.read_espnet),
    Format("BEATs, NatureLM-audio or AVES2", aves_files.is_aves, aves_files.read_aves),
    Format("EAT, fairseq pre-training checkpoint", eat_files.is_pretraining, eat_files.read_pretraining),
    Format("EAT, fairseq fine-tuned checkpoint", eat_files.is_fine_tuned, eat_files.read_fine_tuned),
    Format("EAT, Hugging Face tensors", eat_files.is_hugging_face, eat_files.read_hugging_face),
    Format("AST, Hugging Face tensors", ast_files.is_hugging_face, ast_files.read_hugging_face),
    Format("AST, original state dict", ast_files.is_original, ast_files.read_original),
    Format("DeiT of images, to train AST from", ast_files.is_deit, ast_files.read_deit),
)

WRITERS: dict[str, Callable[[Bundle], Upstream]] = {  # by family
    "beats": beats_files.write_official,
    "beats_tokenizer": beats_files.write_tokenizer,
    "eat": eat_writer.write_eat,
    "ast": ast_files.write_ast,
}


def identify(raw: RawCheckpoint) -> Format:
    """The one format that recognises the checkpoint.

    Raises:
      UserError: none does, or several do.
    """
    found = [item for item in FORMATS if item.recognise(raw)]
    if len(found) > 1:
        raise UserError(f"{raw.path} looks like several kinds at once: {'; '.join(item.name for item in found)}")
    if not found:
        keys = ", ".join(map(str, list(raw.state_dict)[:4])) or "none"
        known = "; ".join(item.name for item in FORMATS)
        raise UserError(f"{raw.path} is of no known family: its first keys are {keys}; known: {known}")
    return found[0]


def read(raw: RawCheckpoint) -> Bundle:
    """The model in a checkpoint of any known format.

    Raises:
      UserError: unknown format, or the tensors do not fit it; the message names the file and the format.
    """
    kind = identify(raw)
    try:
        return kind.read(raw)
    except UserError as error:
        raise UserError(f"{raw.path} ({kind.name}): {error}") from error
