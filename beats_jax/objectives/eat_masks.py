"""Inverse-block masks: a few blocks of the grid stay visible (EAT utils/data_utils.py `compute_block_mask_2d`).

Every clip gets several masks ("clones"), which share one pass of the teacher; all of them show the same number of patches, so
that a step has one shape.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class BlockPlan(NamedTuple):
    """What a grid of H x W patches and the settings make of a mask."""

    grid: tuple[int, int]
    block: int  # side of a block, in patches
    centres: int  # blocks drawn; they may fall onto one another
    visible: int  # patches that stay, exactly


def block_plan(grid: tuple[int, int], mask_ratio: float, adjust: float, block: int) -> BlockPlan:
    """Counts as the published code truncates them: 512 patches, 0.8, 0.07, 5 → 5 blocks and 102 visible patches.

    At least one patch stays visible, and one is hidden, however small the grid.
    """
    cells = grid[0] * grid[1]
    kept = 1 - mask_ratio
    visible = min(max(int(cells * kept), 1), cells - 1)
    return BlockPlan(grid, block, int(cells * (kept + adjust) / block**2), visible)


def block_union(centres: jax.Array, plan: BlockPlan) -> jax.Array:
    """bool [H * W]: the patches that the blocks around flat indices `centres` int32 [n] cover.

    A block that reaches over the border is pressed against it: its cells outside fall onto the border's.
    """
    height, width = plan.grid
    offsets = jnp.arange(plan.block) - plan.block // 2
    rows = jnp.clip((centres // width)[:, None] + offsets[None], 0, height - 1)
    columns = jnp.clip((centres % width)[:, None] + offsets[None], 0, width - 1)
    cells = rows[:, :, None] * width + columns[:, None, :]
    return jnp.zeros(height * width, bool).at[cells.reshape(-1)].set(True)


def visible_patches(key: jax.Array, plan: BlockPlan) -> jax.Array:
    """int32 [V], in rising order: the patches of one mask that stay visible.

    Where the blocks cover too many, random ones of theirs are hidden; where too few, random others are shown. One draw does both:
    the V highest of (covered, uniform number).
    """
    centre_key, order_key = jax.random.split(key)
    cells = plan.grid[0] * plan.grid[1]
    covered = block_union(jax.random.randint(centre_key, (plan.centres,), 0, cells), plan)
    order = covered + jax.random.uniform(order_key, (cells,))
    return jnp.sort(jax.lax.top_k(order, plan.visible)[1]).astype(jnp.int32)


def clone_masks(keys: jax.Array, clones: int, plan: BlockPlan) -> jax.Array:
    """int32 [B, clones, V]: visible patches of every mask, from one key for each clip [B]."""
    return jax.vmap(lambda key: jax.vmap(lambda k: visible_patches(k, plan))(jax.random.split(key, clones)))(keys)
