"""Readable names of AudioSet's tags."""

from beats_jax.config import AudioConfig, BEATsConfig
from beats_jax.weights.audioset import audioset_names, readable_names
from beats_jax.weights.bundle import Bundle, describe


def test_527_names_at_the_places_that_audioset_gives_them():
    names = audioset_names()
    assert len(names) == len(set(names.values())) == 527
    # YAMNet's class map (tensorflow/models, research/audioset/yamnet) is Google's other copy of the list, of 521 classes.
    from_yamnet = {
        "/m/09x0r": "Speech", "/m/0ytgt": "Child speech, kid speaking", "/m/015p6": "Bird", "/m/09ld4": "Frog",
        "/m/020bb7": "Bird vocalization, bird call, bird song", "/t/dd00136": "Whimper (dog)", "/g/122z_qxw": "Firecracker",
        "/m/032n05": "Whale vocalization", "/m/08j51y": "Dental drill, dentist's drill", "/m/07hvw1": "Field recording",
    }  # fmt: skip
    assert {mid: names[mid] for mid in from_yamnet} == from_yamnet
    order = list(names)
    assert (order.index("/m/09x0r"), order.index("/m/07hvw1")) == (0, 526)  # first and last index of the published list


def test_labels_of_a_model_keep_their_order_and_unknown_ones_their_text():
    assert readable_names(("/m/015p6", "Speech", "/m/unknown", "owl", "/m/09x0r")) == (
        "Bird", "Speech", "/m/unknown", "owl", "Speech",
    )  # fmt: skip
    assert readable_names(()) == ()


def test_a_description_names_the_tags():
    config = BEATsConfig(
        embed_dim=24, encoder_layers=1, encoder_embed_dim=32, encoder_ffn_embed_dim=48, encoder_attention_heads=2, conv_pos=16,
        conv_pos_groups=2, predictor_class=3,
    )  # fmt: skip
    lines = describe(Bundle({}, config, AudioConfig(), ("/m/015p6", "owl", "/m/09ld4"), True, "x.pt"))
    assert "labels       3: Bird (/m/015p6), owl, Frog (/m/09ld4)" in lines
    lines = describe(Bundle({}, config, AudioConfig(), ("\x1b[2Jowl\nx", "Mäusebussard", "x" * 10_000), True, "x.pt\r"))
    assert "labels       3: ?[2Jowl?x, Mäusebussard, xxxx" in "\n".join(lines)
    assert all(line.isprintable() and len(line) <= 2000 for line in lines)
