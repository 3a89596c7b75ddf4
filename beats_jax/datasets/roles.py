"""Batches of recordings with different roles: each role is a stream of its own, with its own share of every batch.

    waveforms, lengths, positions, rows, example_mask   clips without labels, then positive ones (`gathered` True)
    negative_waveforms ...                              clips that certainly hold another kind of sound
    labeled_waveforms ..., labeled_labels               clips with labels

Labelled clips are used without their labels too, among the unlabelled ones, because a label takes nothing from a recording.
Every stream is exact from any step on (`loader.training_batches`), and so is the whole. A role that the objective does not
use counts as unlabelled.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import replace

import numpy as np

from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.loader import Batch, training_batches
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.errors import UserError

UNLABELED, LABELED, POSITIVE, NEGATIVE = ROLES = ("unlabeled", "labeled", "positive", "negative")
STREAM_SEEDS = {role: number * 7919 for number, role in enumerate(ROLES)}  # added to the run's seed


def rows_by_role(manifest: Manifest, roles: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Rows (int64) of each of `roles` that has any; all other rows, and labelled ones, are unlabelled.

    In a manifest without the column `role`, rows with labels are labelled.
    """
    number = np.arange(len(manifest))
    role_of = manifest.metadata.get("role")
    if role_of is None:
        role_of = np.where(manifest.labels.per_row > 0, LABELED, UNLABELED)
    found = {role: np.flatnonzero(role_of == role) for role in ROLES[1:] if role in roles}
    others = np.setdiff1d(number, np.concatenate([number[:0], *(rows for role, rows in found.items() if role != LABELED)]))
    return {role: rows for role, rows in ({UNLABELED: others} | found).items() if len(rows)}


def batch_sizes(data: DataConfig, roles: tuple[str, ...]) -> dict[str, int]:
    """Clips of each of `roles` in every global batch."""
    quarter = max(1, data.batch_size // 4)
    given = {
        UNLABELED: data.batch_size,
        LABELED: data.labeled_batch_size or quarter,
        POSITIVE: data.positive_batch_size or quarter,
        NEGATIVE: data.negative_batch_size or quarter,
    }
    return {role: given[role] for role in roles}


def require_apart(manifest: Manifest) -> None:
    """Raises `UserError` when recordings with the same sound are both positive and negative (needs `data.check` "decode")."""
    roles, content = manifest.metadata.get("role"), manifest.metadata.get("content")
    if roles is None or content is None:
        return
    by_content = {text: row for row, text in enumerate(content.tolist()) if text and roles[row] == POSITIVE}
    both = [(by_content[text], row) for row, text in enumerate(content.tolist()) if roles[row] == NEGATIVE and text in by_content]
    if both:
        first = f"{manifest.files[both[0][0]]} and {manifest.files[both[0][1]]}"
        raise UserError(f"{len(both)} recordings are both positive and negative, with the same sound: {first}; remove one")


def with_roles_in_training(manifest: Manifest) -> Manifest:
    """Moves positive and negative recordings to training, because nothing is measured on them.

    Those with the sound of a labelled recording keep its split, so that no test clip is learnt.
    """
    roles = manifest.metadata.get("role")
    if roles is None:
        return manifest
    content = manifest.metadata.get("content", manifest.files)
    shared = np.isin(content, content[roles == LABELED]) & (content != "")
    moved = np.isin(roles, [POSITIVE, NEGATIVE]) & ~shared
    return manifest.with_splits(np.where(moved, "train", manifest.splits))


def join_batches(
    manifest: Manifest,
    vocabulary: LabelVocabulary | None,
    data: DataConfig,
    audio: AudioConfig,
    roles: tuple[str, ...],
    *,
    seed: int,
    start_step: int = 0,
    host_index: int = 0,
    host_count: int = 1,
) -> Generator[Batch, None, None]:
    """Endless batches with every role's share; arguments and errors as in `loader.training_batches`.

    `vocabulary` holds the classes of labelled rows, `roles` those that the objective uses.
    """
    found = rows_by_role(manifest, roles)
    if UNLABELED not in found:
        raise UserError("there are no unlabelled recordings to train on; check data.root and data.train_split")
    if LABELED in roles and LABELED not in found:
        raise UserError("there are no labelled recordings in the training split; check data.labeled_dir and data.train_split")
    sizes = batch_sizes(data, tuple(found))
    with ExitStack() as stack:
        streams = {}
        for role, rows in found.items():
            stream = training_batches(
                manifest.take(rows),
                vocabulary if role == LABELED else None,
                replace(data, batch_size=sizes[role], balanced=data.balanced and role == LABELED),
                audio,
                seed=(seed + STREAM_SEEDS[role]) % 2**32,
                start_step=start_step,
                host_index=host_index,
                host_count=host_count,
            )
            streams[role] = stack.enter_context(closing(stream))
        while True:
            yield _concatenate({role: next(stream) for role, stream in streams.items()}, found, sizes)


def _concatenate(batches: dict[str, Batch], rows: dict[str, np.ndarray], sizes: dict[str, int]) -> Batch:
    parts = {role: {**batch.arrays, "rows": rows[role][batch.arrays["rows"]].astype(np.int32)} for role, batch in batches.items()}
    main = parts[UNLABELED]
    if POSITIVE in parts:
        positive = dict(parts[POSITIVE], positions=parts[POSITIVE]["positions"] + np.int32(sizes[UNLABELED]))
        gathered = np.arange(len(main["rows"]) + len(positive["rows"])) >= len(main["rows"])
        main = {name: np.concatenate([main[name], positive[name]]) for name in main} | {"gathered": gathered}
    arrays = dict(main)
    for role in (NEGATIVE, LABELED):
        arrays |= {f"{role}_{name}": x for name, x in parts.get(role, {}).items()}
    return Batch(arrays, tuple(error for batch in batches.values() for error in batch.errors))
