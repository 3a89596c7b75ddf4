"""Vectors of files: alone = in a batch = by hand, whatever the length; bad files are told."""

import jax.numpy as jnp
import numpy as np
import pytest

import beats_jax
from beats_jax import BEATsFeatureExtractor
from beats_jax.audio.io import read, write_wav
from beats_jax.errors import UserError
from beats_jax.models.heads import POOLINGS

RATE = 16_000


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three clips of other lengths and rates."""
    folder, random = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    paths = []
    for number, (seconds, rate) in enumerate(((0.4, RATE), (1.3, 22_050), (0.7, 8_000))):
        paths.append(folder / f"{number}.wav")
        write_wav(paths[-1], 0.1 * random.normal(size=round(seconds * rate)).astype(np.float32), rate)
    return paths


@pytest.fixture(scope="module")
def model(tiny_model):
    return beats_jax.load(tiny_model)


RULES = {"mean": np.mean, "max": np.max, "std": np.std, "first": lambda x, axis: x[0], "last": lambda x, axis: x[-1]}


@pytest.fixture(scope="module")
def tokens(model, clips):
    """The features of each clip alone, as arrays [T, D]."""
    return [np.asarray(model.encode(read(path, sample_rate=RATE)[None]).features[0]) for path in clips]


@pytest.fixture(scope="module")
def window_tokens(model, clips):
    """Those of the windows of half a second of a clip of 1.3 s: two, and one that ends with the sound."""
    whole = read(clips[1], sample_rate=RATE)
    starts = [0, RATE // 2, len(whole) - RATE // 2]
    return np.concatenate([model.encode(whole[None, start : start + RATE // 2]).features[0] for start in starts])


@pytest.mark.slow
@pytest.mark.parametrize("pooling", RULES)
def test_a_file_gives_the_same_vector_alone_and_in_a_batch(model, clips, tokens, pooling):
    extractor = BEATsFeatureExtractor(model, pooling=pooling, batch_size=2)
    together = extractor.extract_from_files(clips)
    assert (together.shape, together.dtype) == ((3, 32), np.float32)
    np.testing.assert_allclose(together, [RULES[pooling](one, axis=0) for one in tokens], atol=2e-5)
    np.testing.assert_allclose(extractor.extract_from_file(clips[1]), together[1], atol=2e-5)


def test_the_poolings_are_those_of_the_models():
    assert set(RULES) == set(POOLINGS) - {"cls"}


@pytest.mark.slow
def test_the_layer_is_the_models_own(model, clips):
    vector = BEATsFeatureExtractor(model, layer=1).extract_from_file(clips[0])
    layers = model.encode(read(clips[0], sample_rate=RATE)[None], layers=True).layers
    np.testing.assert_allclose(vector, jnp.mean(layers[1, 0], axis=0), atol=2e-5)


@pytest.mark.parametrize("pooling", ["std", "last"])
def test_a_long_file_is_pooled_over_all_tokens_of_all_windows(model, clips, window_tokens, pooling):
    vector = BEATsFeatureExtractor(model, pooling=pooling, window_seconds=0.5).extract_from_file(clips[1])
    np.testing.assert_allclose(vector, RULES[pooling](window_tokens, axis=0), atol=2e-5)


def test_bad_files_are_named_or_become_nan(model, clips, tmp_path):
    (tmp_path / "torn.wav").write_bytes(clips[0].read_bytes()[:30])
    paths = [clips[0], tmp_path / "torn.wav", tmp_path / "gone.wav", clips[2]]
    with pytest.raises(UserError, match=r"2 of 4 files cannot be read: .*torn\.wav.*gone\.wav.*on_error='nan'"):
        BEATsFeatureExtractor(model).extract_from_files(paths)
    extractor = BEATsFeatureExtractor(model, on_error="nan")
    vectors = extractor.extract_from_files(paths)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, False]
    assert sorted(path.rsplit("/", 1)[1] for path in extractor.errors) == ["gone.wav", "torn.wav"]
    np.testing.assert_allclose(vectors[[0, 3]], extractor.extract_from_files([clips[0], clips[2]]), atol=2e-5)
    assert extractor.errors == {}
    assert np.isnan(extractor.extract_from_files(paths[1:3])).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: BEATsFeatureExtractor(model, pooling="maen"), "did you mean 'mean'"),
        (lambda model: BEATsFeatureExtractor(model, pooling="cls"), "allowed: mean, max, first, last, std"),
        (lambda model: BEATsFeatureExtractor(model, layer=7), "layers 0 to 2"),
        (lambda model: BEATsFeatureExtractor(model, on_error="skip"), "allowed: raise, nan"),
        (lambda model: BEATsFeatureExtractor(model).extract_from_files([]), "list of files is empty"),
        (lambda model: BEATsFeatureExtractor(model).extract_from_files("a.wav"), "use extract_from_file"),
        (lambda model: BEATsFeatureExtractor("no/such/model"), "no published checkpoint has this name"),
    ],
)
def test_mistakes_are_told(model, call, message):
    with pytest.raises(UserError, match=message):
        call(model)


def test_the_width_is_the_models(model):
    assert BEATsFeatureExtractor(model).get_feature_dim() == 32
