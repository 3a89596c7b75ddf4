"""EAT in its published layouts: fairseq content for a `.pt` file, Hugging Face keys and `config.json` for safetensors.

The encoder alone goes into the pre-training layout, with a head into the fine-tuned one; there is neither decoder nor teacher.
What these layouts cannot state (the pooling a head reads, its rule for probabilities, the front-end) stands in an entry
`beats_jax` that other readers leave alone; the Hugging Face code itself computes `fc_norm` with 1e-5 and reads CLS.
"""

from __future__ import annotations

from typing import Any, cast

from beats_jax.config import EATConfig
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.families import eat
from beats_jax.weights.families.eat_files import ENCODER_SETTINGS, HUGGING_FACE_SETTINGS, IMAGE_SETTINGS, OURS, our_entry
from beats_jax.weights.key_map import to_state_dict
from beats_jax.weights.upstream import Upstream


def write_eat(bundle: Bundle) -> Upstream:
    """The model in fairseq's layout (content) and in Hugging Face's (tensors and `config.json`)."""
    config = cast(EATConfig, bundle.model)
    headed = config.predictor_class > 0
    layout = eat.FINE_TUNED if headed else eat.PRETRAINING
    content: dict[str, Any] = {
        "args": None,
        "cfg": {"model": _write_fine_tuned(bundle) if headed else _encoder(config)},
        "model": to_state_dict(bundle.params, eat.key_table(config, layout), config),
        OURS: our_entry(bundle),
    }
    if headed:
        content["label_dict"] = dict(enumerate(bundle.labels))
    tensors = to_state_dict(bundle.params, eat.key_table(config, eat.HUGGING_FACE), config)
    return Upstream(content, tensors, {"config.json": _hugging_face(bundle)})


def _encoder(config: EATConfig) -> dict[str, Any]:
    """`cfg.model` of a pre-training file, as far as it speaks of the encoder."""
    image = {**IMAGE_SETTINGS, "patch_size": config.patch_size, "max_length": config.max_length, "decoder": None}
    sizes = {"embed_dim": config.embed_dim, "depth": config.depth, "num_heads": config.num_heads, "mlp_ratio": config.mlp_ratio}
    return {**ENCODER_SETTINGS, **sizes, "norm_eps": config.norm_eps, "skip_ema": True, "modalities": {"image": image}}


def _write_fine_tuned(bundle: Bundle) -> dict[str, Any]:
    config = cast(EATConfig, bundle.model)
    return {
        "_name": "mae_image_classification",
        "num_classes": config.predictor_class,
        "prediction_mode": config.prediction_mode,
        "drop_path_rate": config.drop_path_rate,
        "target_length": bundle.audio.filterbank.target_frames,
        "audio_mae": True,
        "pretrained_model_args": {"model": _encoder(config)},
    }


def _hugging_face(bundle: Bundle) -> dict[str, Any]:
    config = cast(EATConfig, bundle.model)
    head = {"num_classes": config.predictor_class, "id2label": dict(enumerate(bundle.labels))} if bundle.labels else {}
    return {
        **HUGGING_FACE_SETTINGS,
        "model_type": "eat",
        "model_variant": "finetune" if bundle.labels else "pretrain",
        "embed_dim": config.embed_dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": config.mlp_ratio,
        "norm_eps": config.norm_eps,
        "patch_size": config.patch_size,
        "stride": config.patch_size,
        "max_length": config.max_length,
        **head,
        OURS: our_entry(bundle),
    }
