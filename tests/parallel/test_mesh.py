"""The mesh, the rule for shardings, and batches on devices."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from beats_jax.errors import UserError
from beats_jax.parallel.mesh import check_batch_size, make_mesh, put_batch, state_shardings


@pytest.mark.parametrize(("data", "fsdp", "shape"), [(0, 1, (8, 1)), (0, 4, (2, 4)), (2, 4, (2, 4)), (1, 8, (1, 8))])
def test_mesh_uses_all_devices(data, fsdp, shape):
    mesh = make_mesh(data, fsdp)
    assert mesh.devices.shape == shape
    assert mesh.axis_names == ("data", "fsdp")
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


@pytest.mark.parametrize(("data", "fsdp"), [(3, 1), (0, 3), (2, 2), (0, 16), (1, 0)])
def test_other_products_are_refused(data, fsdp):
    with pytest.raises(UserError, match=f"mesh_data {data} x training.mesh_fsdp {fsdp} does not use all 8 devices"):
        make_mesh(data, fsdp)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((), P()),
        ((64,), P()),
        ((8, 64), P(None, "fsdp")),
        ((64, 8), P("fsdp")),
        ((8, 8), P("fsdp")),
        ((7, 1026, 8), P(None, None, "fsdp")),  # the largest does not divide
        ((3, 5), P()),
    ],
)
def test_rule_for_leaves(shape, spec):
    leaf = jax.ShapeDtypeStruct(shape, np.float32)
    assert state_shardings(make_mesh(0, 4), leaf).spec == spec
    assert state_shardings(make_mesh(0, 1), leaf).spec == P()


def test_batch_is_split_over_both_axes():
    rows = np.arange(16, dtype=np.int32)
    batch = put_batch(make_mesh(2, 4), {"rows": rows, "waveforms": np.zeros((16, 5), np.float32)})
    assert {shard.data.shape for shard in batch["waveforms"].addressable_shards} == {(2, 5)}
    np.testing.assert_array_equal(batch["rows"], rows)


def test_uneven_batches_are_refused_with_a_better_size():
    mesh = make_mesh()
    with pytest.raises(UserError, match=r"batch_size 12 does not divide over 8 devices: use a multiple of 8, such as 16"):
        put_batch(mesh, {"rows": np.arange(12)})
    with pytest.raises(UserError, match=r"8 devices x 3 accumulation steps: use a multiple of 24, such as 24"):
        check_batch_size(mesh, 16, 3)
    check_batch_size(mesh, 48, 3)
