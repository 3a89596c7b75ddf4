"""A probe that predicts: its head on disk, and the encoder with that head as a model like any other.

PROBE/head.safetensors        the head's arrays; its metadata: kind, layer, pooling, labels, windows, encoder; hashed as a whole
PROBE/operating_point.json    thresholds by predictions of rows that did not train, as a run's
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.evaluation.probes.fitted import ATTENTIVE, probe_answer
from beats_jax.evaluation.probes.kinds import KINDS, Setting
from beats_jax.inference.inputs import Array
from beats_jax.inference.model import Model, Waveforms
from beats_jax.inference.model import load as load_model
from beats_jax.inference.program import Batch, ModelProgram, Outputs, Program, pooled_vector
from beats_jax.json_files import parse_json
from beats_jax.models.cpu import Form
from beats_jax.weights.bundle import Bundle, Reading
from beats_jax.weights.hashed import read_arrays, sha256_of_arrays, write_arrays

HEAD_FILE, FOLDER = "head.safetensors", "probe"
_FACTS = {
    **{"kind": str, "setting": (float, str), "layer": int, "pooling": str, "labels": [str], "multi_label": bool},
    **{"reading": {"window_seconds": float, "hop_seconds": float, "trim_below_dbfs": float}, "source": str, "encoder": dict},
}
_SAME = ("params_sha256", "model", "audio")  # of an encoder's identity; its type of computation may differ


@dataclass(frozen=True, eq=False)
class ProbeHead:
    """A fitted probe of C classes.

    Attributes:
      kind, setting: as in `kinds.KINDS`, or attentive. arrays: of `fitted.fit_probe`.
      layer, pooling: what it reads; of the attentive kind the tokens of the layer.
      reading: windows of the examples. source: the encoder as it was named. encoder: `Program.identity` of it.
    """

    kind: str
    setting: Setting
    arrays: Mapping[str, np.ndarray]
    layer: int
    pooling: str
    labels: tuple[str, ...]
    multi_label: bool
    reading: Reading
    source: str
    encoder: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class ProbeProgram:
    """The encoder's statistics or tokens of one layer, and the head on them, compiled as two functions."""

    encoder: ModelProgram
    head: ProbeHead
    params: Any  # {"encoder": as the encoder's, "head": arrays}

    @property
    def audio(self) -> AudioConfig:
        return self.encoder.audio

    @property
    def min_samples(self) -> int:
        return self.encoder.min_samples

    def identity(self) -> dict[str, Any]:
        facts = [self.head.kind, self.head.setting]
        return {**self.encoder.identity(), "head_sha256": sha256_of_arrays(self.head.arrays, facts)}

    def __call__(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        """`logits`, float32 [B, C]."""
        values = self.encoder(params["encoder"], batch)
        head, mask = self.head, None
        if head.kind == ATTENTIVE:
            inputs, mask = values["tokens"][None], values["token_mask"]
        else:
            inputs = pooled_vector(values, head.pooling)
        return {"logits": probe_answer(head.kind, head.setting, params["head"], inputs, mask, multi_label=head.multi_label)}


class ProbedModel(Model):
    """An encoder whose head is a fitted probe: `logits`, `predict`, `predict_files` are the probe's, `encode` the encoder's."""

    def __init__(self, bundle: Bundle, head: ProbeHead, dtype: str, form: Form = Form.AUTO) -> None:
        described = replace(bundle, labels=head.labels, multi_label=head.multi_label, reading=head.reading)
        super().__init__(described, dtype, form)
        self.head = head

    def program(self, outputs: Outputs) -> Any:
        if not outputs.logits:
            return super().program(outputs)
        if outputs.poolings:
            raise UserError("the logits of a probe and embeddings are not computed in one pass; embed with the encoder itself")
        wanted = Outputs(layers=(self.head.layer,), tokens=True)
        if self.head.kind != ATTENTIVE:
            wanted = Outputs((self.head.pooling,), (self.head.layer,))
        arrays = {name: jax.numpy.asarray(array) for name, array in self.head.arrays.items()}
        return ProbeProgram(super().program(wanted), self.head, {"encoder": self.params, "head": arrays})

    def logits(
        self,
        waveforms: Waveforms,
        padding_mask: Array | None = None,
        lengths: Array | None = None,
        sample_rate: int | None = None,
    ) -> jax.Array:
        if padding_mask is not None:
            raise UserError("a probe was fitted with lengths; give lengths in place of padding_mask")
        return super().logits(waveforms, lengths=lengths, sample_rate=sample_rate)

    def save(self, path: str | Path) -> Path:
        """Refused: the folder of `evaluate --probe` is the probe. Raises `UserError`."""
        raise UserError(f"a probe is not written as a model; copy its folder, which names its encoder {self.head.source}")


def write_head(folder: Path, head: ProbeHead) -> Path:
    """Writes the head and returns its file."""
    facts = {name: getattr(head, name) for name in _FACTS if name != "reading"} | {"reading": asdict(head.reading)}
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / HEAD_FILE, head.arrays, {"facts": json.dumps(facts, sort_keys=True)})
    return folder / HEAD_FILE


def probe_folder(source: str | Path) -> Path | None:
    """The folder of the head, where `source` is that or an output of `evaluate --probe`; else None."""
    path = Path(source).expanduser()
    return next((folder for folder in (path, path / FOLDER) if (folder / HEAD_FILE).is_file()), None)


def read_head(folder: Path) -> ProbeHead:
    """The head in a folder. Raises `UserError` for a damaged one."""
    file = folder / HEAD_FILE
    arrays, texts = read_arrays(file)
    facts = parse_json(texts.get("facts", ""), _FACTS, str(file), remedy="give evaluate --probe again")
    if facts["kind"] not in (*KINDS, ATTENTIVE):
        raise UserError(f"{file} holds a probe of kind {facts['kind']!r}, which this version does not know; update beats_jax")
    lists = {"labels": tuple(facts["labels"]), "reading": Reading(**facts["reading"])}
    return ProbeHead(arrays=arrays, **{name: facts[name] for name in _FACTS if name not in lists}, **lists)


def load_probe(folder: Path, dtype: str = "float32", attention: str = "auto") -> ProbedModel:
    """The encoder of a probe with the probe as its head.

    Raises:
      UserError: the encoder is gone or another one than the probe was fitted on; a damaged file.
    """
    head = read_head(folder)
    encoder = load_model(head.source, dtype=dtype, attention=attention)
    require_same_encoder(encoder.program(Outputs()), head, folder)
    return ProbedModel(replace(encoder._bundle, params=encoder.params), head, dtype, encoder.architecture.form)


def require_same_encoder(program: Program, head: ProbeHead, folder: Path) -> None:
    """Raises `UserError` where the weights, the architecture or the front-end are not those of the probe."""
    found = json.loads(json.dumps(program.identity()))
    different = [name for name in _SAME if found.get(name) != head.encoder.get(name)]
    if different:
        names = {"params_sha256": "weights", "model": "architecture", "audio": "front-end"}
        raise UserError(
            f"{folder} was fitted on {head.source} when its {' and '.join(names[name] for name in different)} were others; "
            "give evaluate --probe again, or restore that model"
        )


def load(source: str | Path, dtype: str = "float32", attention: str = "auto") -> Model:
    """`inference.model.load`, and probes that `evaluate --probe` saved: an encoder with the probe as its head.

    Args:
      source: as there, or OUTPUT or OUTPUT/probe of `evaluate --probe`.
    Raises:
      UserError: as there; see `load_probe`.
    """
    folder = probe_folder(source)
    return load_model(source, dtype, attention) if folder is None else load_probe(folder, dtype, attention)
