"""The shapes that signatures state are checked in tests (the import hook in tests/conftest.py)."""

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from beats_jax.models.masking import token_mask_from_frames


@pytest.mark.parametrize("mask", [jnp.ones((2, 50, 1), bool), jnp.ones((2, 50)), [[True] * 50]], ids=["rank", "type", "list"])
def test_a_wrong_shape_or_type_is_refused(mask):
    with pytest.raises(TypeCheckError, match="frame_mask"):
        token_mask_from_frames(mask, 16, 128)
