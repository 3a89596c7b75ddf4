"""Token masks: the published reduction on worked examples, and the rule under which a batch equals single clips."""

import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.models.masking import reduce_padding_mask, reference_token_mask, token_mask_from_frames


def test_one_second_half_padded_as_measured_in_the_published_code():
    padding = jnp.arange(16_000)[None, :] >= 8_000
    assert int(reduce_padding_mask(padding, 98).sum()) == 48
    tokens = np.asarray(reference_token_mask(padding, 98, 48))[0]
    assert np.flatnonzero(tokens).tolist() == list(range(25, 48))


def test_reduction_drops_the_rest_and_needs_whole_runs():
    padding = jnp.array([[False, True, True, True, True, False, True]])
    np.testing.assert_array_equal(reduce_padding_mask(padding, 3), [[False, True, False]])
    np.testing.assert_array_equal(reduce_padding_mask(padding, 7), padding)


@pytest.mark.parametrize(("real", "patches"), [(0, 0), (1, 1), (15, 1), (16, 1), (31, 1), (32, 2), (47, 2), (50, 3)])
def test_a_patch_is_real_when_all_its_frames_are(real, patches):
    mask = np.asarray(token_mask_from_frames(jnp.arange(50)[None, :] < real, 16, 128))
    assert mask.shape == (1, 24)
    np.testing.assert_array_equal(mask[0], np.arange(24) < 8 * patches)
