"""Few-shot networks against darksound and easyfsl on stored inputs (golden/README.md, section Few-shot)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.errors import UserError
from beats_jax.models.fewshot import matching, nearest
from beats_jax.models.fewshot.matching import FullContextEmbeddings
from beats_jax.models.fewshot.relation import RelationModule, map_prototypes
from beats_jax.weights.families import fewshot

WAYS, SHOTS = 5, 3


@pytest.fixture(scope="module")
def golden(golden_files):
    with np.load(golden_files / "fewshot_scores.npz") as arrays:
        return dict(arrays)


def part(golden, prefix):
    return {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}


def episode(golden):
    support, query = golden["support"].reshape(WAYS, SHOTS, -1), golden["query"]
    return jnp.asarray(support), jnp.asarray(query), golden["query_labels"]


def cross_entropy(scores, labels):
    return -jnp.mean(jax.nn.log_softmax(scores)[jnp.arange(len(labels)), labels])


def test_prototypical(golden):
    support, query, labels = episode(golden)
    np.testing.assert_allclose(nearest.prototypes(support), golden["proto_prototypes"], rtol=1e-6)
    scores = nearest.prototypical_scores(support, query)
    np.testing.assert_allclose(scores, golden["proto_scores"], rtol=1e-5)
    np.testing.assert_allclose(-np.sqrt(-scores), golden["proto_easyfsl_scores"], rtol=1e-5)
    loss = lambda s, q: cross_entropy(nearest.prototypical_scores(s, q), labels)  # noqa: E731
    found, (own, other) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(support, query)
    assert abs(found - golden["proto_loss"]) < 1e-6
    np.testing.assert_allclose(own.reshape(-1, 16), golden["proto_grad_support"], atol=1e-6)
    np.testing.assert_allclose(other, golden["proto_grad_query"], atol=1e-6)


@pytest.fixture(scope="module")
def matching_network(golden):
    width, params = fewshot.matching_from_torch(part(golden, "matching/"))
    return FullContextEmbeddings(width), {"params": params}


def test_matching_scores_and_each_part(golden, matching_network):
    module, variables = matching_network
    support, query, _ = episode(golden)
    items = jnp.asarray(golden["support"])
    bound = module.bind(variables)
    both = [matching.read_in_order(bound.forward(), items), matching.read_in_order(bound.backward(), items, reverse=True)]
    np.testing.assert_allclose(np.concatenate(both, axis=1), golden["matching_bilstm_output"], atol=1e-6)
    context = bound.in_context(items)
    np.testing.assert_allclose(context, golden["matching_contextualized_support"], atol=3e-6)
    first = matching.attend(bound.read_out(), query, context, 1)
    for found, name in zip(first, ("step1_h", "step1_c"), strict=True):
        np.testing.assert_allclose(found, golden[f"matching_{name}"], atol=3e-6)
    np.testing.assert_allclose(bound.query_in_context(query, context), golden["matching_contextualized_query"], atol=3e-6)
    scores = module.apply(variables, support, query)
    np.testing.assert_allclose(scores, golden["matching_log_scores"], rtol=3e-6, atol=3e-6)
    np.testing.assert_allclose(jax.nn.log_softmax(scores), golden["matching_log_softmax"], rtol=3e-6, atol=3e-6)


def test_matching_follows_the_order_of_the_support(golden, matching_network):
    module, variables = matching_network
    bound, perm = module.bind(variables), golden["perm"]
    items = bound.in_context(jnp.asarray(golden["support"][perm]))
    labels = jnp.asarray(np.eye(WAYS, dtype=np.float32)[golden["support_labels"][perm]])
    scores = matching.matching_scores(bound.query_in_context(jnp.asarray(golden["query"]), items), items, labels)
    np.testing.assert_allclose(scores, golden["matching_log_scores_perm"], rtol=3e-6, atol=3e-6)


def test_matching_gradients(golden, matching_network):
    module, variables = matching_network
    support, query, labels = episode(golden)
    loss = lambda v, s, q: cross_entropy(module.apply(v, s, q), labels)  # noqa: E731
    found, (weights, own, other) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(variables, support, query)
    assert abs(found - golden["matching_loss"]) < 1e-6
    np.testing.assert_allclose(own.reshape(-1, 16), golden["matching_grad_support"], atol=1e-6)
    np.testing.assert_allclose(other, golden["matching_grad_query"], atol=1e-6)
    forward, read_out = weights["params"]["forward"], weights["params"]["read_out"]
    np.testing.assert_allclose(forward["kernel"].T, golden["matching_grad_weight_ih_l0"], atol=1e-6)
    np.testing.assert_allclose(read_out["recurrent"].T, golden["matching_grad_cell_weight_hh"], atol=1e-6)


@pytest.fixture(scope="module")
def relation_network(golden):
    channels, variables = fewshot.relation_from_torch(part(golden, "relation/"))
    return RelationModule(channels), variables


def maps_of(golden, suffix):
    support, query = (jnp.asarray(golden[f"relation_{name}_maps{suffix}"].transpose(0, 2, 3, 1)) for name in ("support", "query"))
    return support.reshape(WAYS, SHOTS, *support.shape[1:]), query


@pytest.mark.parametrize("suffix", ["", "_7x7"])
def test_relation_scores_in_both_modes_and_statistics_after(golden, relation_network, suffix):
    module, variables = relation_network
    support, query = maps_of(golden, suffix)
    prototypes = np.asarray(map_prototypes(support)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(prototypes, golden[f"relation_prototypes{suffix}"], atol=1e-6)
    found = jax.jit(module.apply)(variables, support, query)
    np.testing.assert_allclose(found, golden[f"relation_scores_eval{suffix}"], rtol=3e-6, atol=3e-6)
    in_training = jax.jit(partial(module.apply, train=True, mutable=["batch_stats"]))
    found, after = in_training(variables, support, query)
    np.testing.assert_allclose(found, golden[f"relation_scores_train{suffix}"], rtol=3e-6, atol=3e-6)
    stored = fewshot.to_torch({"params": variables["params"], **after}, fewshot.relation_table())
    for key, value in part(golden, f"relation_after_train{suffix}/").items():
        np.testing.assert_allclose(stored[key], value, rtol=1e-5, atol=1e-6, err_msg=key)
    before = golden["relation/relation_module.0.1.num_batches_tracked"]
    assert stored["relation_module.0.1.num_batches_tracked"] == before + 1


def test_relation_loss_and_gradients(golden, relation_network):
    module, variables = relation_network
    support, query = maps_of(golden, "")
    wanted = np.eye(WAYS, dtype=np.float32)[golden["query_labels"]]

    def loss(params, support):
        scores, _ = module.apply({**variables, "params": params}, support, query, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(scores - wanted))

    found, (weights, own) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(variables["params"], support)
    assert abs(found - golden["relation_loss_train"]) < 1e-6
    own = np.asarray(own).reshape(-1, *own.shape[2:]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(own, golden["relation_grad_support_maps"], atol=1e-6)
    np.testing.assert_allclose(weights["conv1_kernel"].transpose(3, 2, 0, 1), golden["relation_grad_conv0"], atol=1e-6)


def test_keys_of_both_libraries_and_of_whole_checkpoints_load(golden, matching_network, relation_network):
    theirs = part(golden, "matching/")
    names = {ours: easyfsl for easyfsl, ours in fewshot.EASYFSL.items()}
    easyfsl = {f"{names[key.split('.')[0]]}.{key.split('.', 1)[1]}": value for key, value in theirs.items()}
    width, params = fewshot.matching_from_torch({**easyfsl, "backbone.fc.weight": np.zeros((2, 2), np.float32)})
    assert width == 16
    jax.tree.map(np.testing.assert_array_equal, params, matching_network[1]["params"])
    for table, params, prefix in (
        (fewshot.matching_table(), matching_network[1]["params"], "matching/"),
        (fewshot.relation_table(), relation_network[1], "relation/"),
    ):
        back, given = fewshot.to_torch(params, table), part(golden, prefix)
        assert set(back) == set(given)
        for key, value in given.items():
            np.testing.assert_array_equal(back[key], value, err_msg=key)


def test_tensors_of_another_network_are_refused(golden):
    theirs = part(golden, "matching/")
    with pytest.raises(UserError, match="unknown relation_module"):
        fewshot.matching_from_torch({**theirs, **part(golden, "relation/")})
    with pytest.raises(UserError, match=r"missing query_embeddings_encoding_cell.weight_hh"):
        fewshot.matching_from_torch(part(golden, "relation/"))
    del theirs["support_embeddings_encoder.weight_ih_l0"]
    with pytest.raises(UserError, match=r"missing support_embeddings_encoder.weight_ih_l0"):
        fewshot.matching_from_torch(theirs)


def test_fresh_networks_have_the_shapes_of_the_stored_ones(golden, matching_network, relation_network):
    support, query, _ = episode(golden)
    cases = [(*matching_network, (support, query)), (*relation_network, maps_of(golden, ""))]
    for module, variables, inputs in cases:
        fresh = jax.eval_shape(module.init, jax.random.key(0), *inputs)
        assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, variables)
