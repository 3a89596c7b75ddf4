"""All published layouts: finds the layout of a file, reads it as a `Bundle`, and has the writers of the families.

A new layout is one pair of functions in its family's file and one entry here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from beats_jax.errors import UserError
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.families import ast_files, aves_files, beats_files, eat_files, espnet_files, resnet
from beats_jax.weights.families.key_map import without_prefix
from beats_jax.weights.pickle_machine import shorten
from beats_jax.weights.raw import RawCheckpoint, Upstream


class Format(NamedTuple):
    """One published layout."""

    name: str
    recognise: Callable[[RawCheckpoint], bool]  # at most one format may recognise a file
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
    Format("ResNet-18 of torchvision", resnet.is_resnet, resnet.read_bundle),
)

WRITERS: dict[str, Callable[[Bundle], Upstream]] = {  # by family
    "beats": beats_files.write_official,
    "beats_tokenizer": beats_files.write_tokenizer,
    "eat": eat_files.write_eat,
    "ast": ast_files.write_ast,
    "resnet": resnet.write_resnet,
}

INNER_WRAPPINGS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
MOST_WRAPPINGS = 8


def identify(raw: RawCheckpoint) -> Format:
    """The format that recognises the checkpoint. Raises `UserError` if none does or several do."""
    found = [item for item in FORMATS if item.recognise(raw)]
    if len(found) > 1:
        raise UserError(f"{raw.path} looks like several kinds at once: {'; '.join(item.name for item in found)}")
    if not found:
        keys = ", ".join(shorten(str(key)) for key in list(raw.state_dict)[:4]) or "none"
        known = "; ".join(item.name for item in FORMATS)
        raise UserError(f"{raw.path} is of no known family: its first keys are {keys}{_part(raw)}; known: {known}")
    return found[0]


def read(raw: RawCheckpoint) -> Bundle:
    """Reads the model in a checkpoint of any known format; `source` names prefixes of its keys that were dropped.

    Raises:
      UserError: unknown format, or the tensors do not fit it; the message names the file and the format.
    """
    raw, wrapping = unwrap(raw)
    kind = identify(raw)
    try:
        bundle = kind.read(raw)
    except UserError as error:
        raise UserError(f"{raw.path} ({kind.name}): {error}") from error
    return replace(bundle, source=f"{bundle.source} (keys read without {wrapping})") if wrapping else bundle


def unwrap(raw: RawCheckpoint) -> tuple[RawCheckpoint, str]:
    """Drops the names that training code puts around a model's keys; returns the checkpoint and these names.

    Prefixes of all keys (`module.` of DataParallel, `model.` of Lightning, any other) are dropped one by one until a format
    recognises the rest. Names of torch.compile and FSDP are dropped anywhere in a key. Without a match nothing changes.

    Raises:
      UserError: a tensor is there with and without such a name.
    """
    keys = {str(key): plain_key(str(key)) for key in raw.state_dict}
    if len(set(keys.values())) < len(keys):
        twice = next(key for key, plain in keys.items() if plain != key and plain in keys)
        raise UserError(f"{raw.path} holds {shorten(plain_key(twice))} twice, also as {shorten(twice)}")
    tensors = {keys[str(key)]: value for key, value in raw.state_dict.items()}
    inner = sorted({name for key in keys for name in INNER_WRAPPINGS if name in key})
    prefix, names = "", list(inner)
    for _ in range(MOST_WRAPPINGS):
        found = replace(raw, state_dict=without_prefix(tensors, prefix))
        if any(item.recognise(found) for item in FORMATS):
            return (found, " and ".join(names)) if names else (raw, "")
        first = next(iter(found.state_dict), "").partition(".")[0] + "."
        if first == "." or not all(key.startswith(first) for key in found.state_dict):
            break
        prefix += first
        names = [prefix, *inner]
    return raw, ""


def plain_key(key: str) -> str:
    """A key without the names of `INNER_WRAPPINGS`."""
    for name in INNER_WRAPPINGS:
        key = key.replace(name, "")
    return key


def _part(raw: RawCheckpoint) -> str:
    """For the error: where a known model lies among other tensors. It is not read, because a guess could be wrong."""
    prefix, tensors = "", {str(key): value for key, value in raw.state_dict.items()}
    for _ in range(MOST_WRAPPINGS if tensors else 0):
        ((first, _),) = Counter(key.partition(".")[0] + "." for key in tensors).most_common(1)
        prefix, tensors = prefix + first, without_prefix(tensors, first)
        if not tensors:
            break
        names = [item.name for item in FORMATS if item.recognise(replace(raw, state_dict=tensors))]
        if names:
            others = [shorten(str(key)) for key in raw.state_dict if not str(key).startswith(prefix)]
            return (
                f"; under {shorten(prefix)!r} it looks like {' or '.join(names)}, but tensors of something else are beside it "
                f"({len(others)}, such as {', '.join(others[:3])}): save the state dict of that part alone"
            )
    return ""
