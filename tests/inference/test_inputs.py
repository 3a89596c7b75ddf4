"""Waveforms from a caller: what is understood, what is refused and by which words."""

import jax.numpy as jnp
import numpy as np
import pytest
import soxr
from flax.traverse_util import unflatten_dict
from tiny_beats import TINY_BEATS

from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.inference.model import Model
from beats_jax.parallel.mesh import native_dtype
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle

RATE = 16_000


@pytest.fixture(scope="module")
def model():
    draw = np.random.default_rng(1)
    params = unflatten_dict(
        {path: draw.normal(0, 0.2, shape).astype(np.float32) for path, shape in param_shapes(TINY_BEATS).items()}, sep="/"
    )
    return Model(Bundle(params, TINY_BEATS, AudioConfig(), (), False, "a test"))


@pytest.fixture(scope="module")
def sound():
    return np.random.default_rng(0).normal(0, 0.1, (2, 8000)).astype(np.float32)


def test_a_list_of_clips_is_each_clip_alone(model, sound):
    clips = [sound[0], sound[1, :5000].astype(np.float64)]
    together = model.embed(clips)
    np.testing.assert_allclose(together[0], model.embed(sound[:1])[0], atol=1e-5)
    np.testing.assert_allclose(together[1], model.embed(sound[1:, :5000])[0], atol=1e-5)


def test_another_rate_is_resampled(model, sound):
    found = model.embed(sound, sample_rate=44_100)
    expected = model.embed(np.stack([soxr.resample(clip, 44_100, RATE) for clip in sound]))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(model.embed(sound, sample_rate=RATE), model.embed(sound))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x: np.round(x * 32768), "integers cast to floats; divide them"),
        (lambda x: x[:1].T.repeat(2, axis=1), r"average the channels: waveform\.mean\(axis=1\)"),
        (lambda x: np.where(np.arange(8000) == 5, np.nan, x), "clip 0 of the waveforms holds NaN"),
        (lambda x: jnp.where(jnp.arange(8000) == 5, jnp.inf, x), "clip 0 of the waveforms holds NaN or infinite"),
        (lambda x: np.full((1, 8000), 3e30, np.float32), "reach 3e"),
        (lambda x: x.tolist(), "holds a list; each clip must be an array"),
        (lambda x: x[0].tolist(), "holds a float; each clip must be an array"),
        (lambda x: [], "the list of waveforms is empty"),
        (lambda x: [x], r"with a clip of shape \(2, 8000\)"),
        (lambda x: "a.wav", "embed_files and predict_files read files"),
        (lambda x: x[0], r"for one clip give waveform\[None\]"),
        (lambda x: (x * 1000).astype(np.int16), "divide integers by their full scale"),
        (lambda x: None, "waveforms is a NoneType"),
    ],
)
def test_nonsense_is_refused_by_name(model, sound, make, words):
    with pytest.raises(UserError, match=words):
        model.embed(make(sound))


def test_samples_beyond_full_scale_are_sound(model, sound):
    assert np.isfinite(model.embed(sound * 20)).all()


def test_the_type_that_a_machine_computes_natively(tmp_path, model):
    facts = tmp_path / "cpuinfo"
    for flags, dtype in (("flags : fpu avx512f", "float32"), ("flags : fpu avx512_bf16 x", "bfloat16"), ("amx_bf16", "bfloat16")):
        facts.write_text(flags)
        assert native_dtype(facts) == dtype
    assert native_dtype(tmp_path / "none") == "float32"
    bundle = Bundle(model.params, TINY_BEATS, AudioConfig(), (), False, "a test")
    assert Model(bundle, "auto").architecture.dtype == native_dtype()
    with pytest.raises(UserError, match="allowed: float32, bfloat16, auto"):
        Model(bundle, "float16")


def test_a_model_prints_what_it_is(model):
    assert repr(model) == "<beats of 2 layers x 32, 16000 Hz, float32, from a test>"
    assert "family       beats" in str(model)


def test_programs_of_one_architecture_are_compiled_once(model, sound):
    from beats_jax.inference.program import Outputs, _compute

    again = Model(Bundle(model.params, TINY_BEATS, AudioConfig(), (), False, "another"))
    model.embed(sound)
    before = _compute._cache_size()
    again.embed(sound)
    again.program(Outputs(("mean",)))
    assert _compute._cache_size() == before


def test_dir_lists_the_public_names():
    import beats_jax

    assert {"load", "Model", "BEATsTrainer", "BEATsFeatureExtractor", "list_available_models"} <= set(dir(beats_jax))
    assert all(hasattr(beats_jax, name) for name in dir(beats_jax))
