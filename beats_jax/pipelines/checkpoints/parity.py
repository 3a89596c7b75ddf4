"""Do the encoders compute on this machine's devices what the published code computes? Golden numbers against our own.

A family is proved by an entry of `CASES`: a published weights file with seeded random tensors, and for one clip the numbers that
the published implementation gave (golden/README.md). The files lie in the package; nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import jax
import numpy as np

from beats_jax.audio.filterbank import AST, BEATS, EAT, filterbank
from beats_jax.config import FilterbankConfig
from beats_jax.errors import UserError
from beats_jax.files import sha256_of
from beats_jax.inference.model import Model
from beats_jax.models.cpu import Form
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.pretrained import read_checkpoint

Device = Any  # jax.Device, in which type checkers see a variable

BUILT_IN = Path(__file__).parent / "golden"
MANIFEST = "manifest.json"  # file → sha256


class Case(NamedTuple):
    """One model with known numbers: `<name>.npz` holds them, `weights` is what `beats_jax.load` is given."""

    name: str
    family: str  # as it is printed
    weights: str


class FrontEndCase(NamedTuple):
    """One filterbank with known numbers, `<name>.npz`."""

    name: str
    family: str
    config: FilterbankConfig


class Precision(NamedTuple):
    """How the products are computed, and what differences that allows."""

    name: str
    dtype: str
    products: str  # jax_default_matmul_precision
    allowed: Mapping[str, float]


CASES: tuple[Case, ...] = (
    Case("beats_fine_tuned", "BEATs", "beats_fine_tuned.pt"),
    Case("beats_tokenizer", "BEATs tokenizer", "beats_tokenizer.pt"),
    Case("eat_pretraining", "EAT", "eat_pretraining.pt"),
    Case("eat_fine_tuned", "EAT, fine-tuned", "eat_fine_tuned.pt"),
    Case("ast_hugging_face", "AST", "ast_hugging_face"),
    Case("ast_original", "AST, original", "ast_original/model.pt"),
)

FRONT_END_CASES: tuple[FrontEndCase, ...] = (
    FrontEndCase("front_end_beats", "filterbank of BEATs", BEATS),
    FrontEndCase("front_end_ast", "filterbank of AST", replace(AST, target_frames=128)),
    FrontEndCase("front_end_eat", "filterbank of EAT", replace(EAT, target_frames=96)),
)

# Largest differences. EXACT: the golden README's bounds for a float32 port (measured on CPU: 3e-6 states, 4e-7 logits, 9e-8
# probabilities). ROUNDED: measured in bfloat16 on CPU 0.026, 0.0095, 0.0011, with room for other devices' order of summation; the
# numbers are of size 1 to 4, of which bfloat16 keeps 8 bits.
EXACT_LIMITS = {"layers": 2e-5, "features": 2e-5, "logits": 1e-5, "probabilities": 1e-6, "codes": 0.0}
ROUNDED_LIMITS = {"layers": 0.1, "features": 0.1, "logits": 0.05, "probabilities": 0.005, "codes": 0.1}
FRONT_END_LIMIT = 5e-4  # of normalised log-mel energies: float32 FFTs differ by that much in silence

FLOAT32 = Precision("float32", "float32", "highest", EXACT_LIMITS)
AS_COMPILED = Precision("float32, rounded products", "float32", "default", ROUNDED_LIMITS)  # TF32 on GPUs, bfloat16 on TPUs
BFLOAT16 = Precision("bfloat16", "bfloat16", "default", ROUNDED_LIMITS)


class Outcome(NamedTuple):
    """One line of the table.

    Attributes:
      family, device, precision: of what.
      states, states_allowed: largest difference of the states after every layer (of a filterbank: of its energies) and its limit.
      head: what else was compared: logits, probabilities, codes; empty = nothing. head_difference, head_allowed: of that (codes:
        share of tokens with another code).
      departs: the first place beyond its limit; empty = none is.
      altered: files that are not those of the manifest.
    """

    family: str
    device: str
    precision: str
    states: float | None  # None = the golden file holds none
    states_allowed: float
    head: str
    head_difference: float
    head_allowed: float
    departs: str
    altered: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """All numbers within their limits, from the files of the manifest."""
        return not self.departs and not self.altered


def devices() -> list[Device]:
    """The first device of each platform that jax can use here, the default one first."""
    found = {device.platform: device for device in reversed(jax.devices())}
    try:
        found.setdefault("cpu", jax.devices("cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS names accelerators alone
        pass
    return list(found.values())


def precisions(device: Device) -> tuple[Precision, ...]:
    """What is computed on a device: accelerators round the factors of float32 products unless they are told not to."""
    return (FLOAT32, BFLOAT16) if device.platform == "cpu" else (FLOAT32, AS_COMPILED, BFLOAT16)


def forms_of(device: Device) -> tuple[Form, ...]:
    """The formulations that batches of one clip and of many take on a device: on one CPU these differ."""
    one_cpu = device.platform == "cpu" and jax.device_count("cpu") == 1
    return (Form.AUTO, Form.LOOPED) if one_cpu else (Form.AUTO,)


def prove(folder: Path | None = None) -> list[Outcome]:
    """Every case on every platform's first device in every precision.

    Args:
      folder: golden files in place of the built-in ones.
    Raises:
      UserError: the folder lacks a file, or holds one that is damaged.
    """
    folder = folder or BUILT_IN
    expected = _manifest(folder)
    outcomes = []
    for front_end in FRONT_END_CASES:
        numbers = _numbers(folder, front_end.name)
        altered = _find_altered(folder, expected, (f"{front_end.name}.npz",))
        outcomes += [_prove_front_end(front_end, numbers, device, altered) for device in devices()]
    for case in CASES:
        numbers = _numbers(folder, case.name)
        altered = _find_altered(folder, expected, (case.weights, f"{case.name}.npz"))
        bundle = read_checkpoint(folder / case.weights)
        outcomes += [
            _prove_case(case, bundle, numbers, device, precision, altered)
            for device in devices()
            for precision in precisions(device)
        ]
    return outcomes


def hashes(folder: Path) -> dict[str, str]:
    """Path in the folder → sha256 of every golden file."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in (MANIFEST, "README.md"))
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}


def _prove_front_end(case: FrontEndCase, numbers: Mapping[str, np.ndarray], device: Device, altered: tuple[str, ...]) -> Outcome:
    with jax.default_device(device):
        fbank, _ = filterbank(numbers["waveform"][None], None, case.config)
    difference = _largest_difference(np.asarray(fbank)[0], numbers["fbank"])
    departs = "" if difference <= FRONT_END_LIMIT else "the filterbank"
    return Outcome(case.family, _device_name(device), "float32", difference, FRONT_END_LIMIT, "", 0.0, 0.0, departs, altered)


def _prove_case(
    case: Case,
    bundle: Bundle,
    numbers: Mapping[str, np.ndarray],
    device: Device,
    precision: Precision,
    altered: tuple[str, ...],
) -> Outcome:
    states, head, head_difference, departs = None, "", 0.0, ""
    for form in forms_of(device):
        with jax.default_device(device), jax.default_matmul_precision(precision.products):
            found = _compute(Model(bundle, precision.dtype, form), numbers["fbank"], set(numbers))
        for place, kind, ours, golden in _places(found, numbers):
            difference = float(np.mean(ours != golden)) if kind == "codes" else _largest_difference(ours, golden)
            if kind in ("layers", "features"):
                states = float(np.maximum(states or 0.0, difference))  # keeps NaN
            else:
                head, head_difference = kind, float(np.maximum(head_difference if head == kind else 0.0, difference))
            if not departs and not difference <= precision.allowed[kind]:
                departs = place
    limits = precision.allowed["features"], precision.allowed[head] if head else 0.0
    return Outcome(
        case.family, _device_name(device), precision.name, states, limits[0], head, head_difference, limits[1], departs, altered
    )


def _compute(model: Model, fbank: np.ndarray, wanted: set[str]) -> dict[str, np.ndarray]:
    """Our numbers of the kinds that are wanted, for one clip."""
    out = model.encode_fbank(fbank[None], layers="layers" in wanted)
    found = {name: np.asarray(getattr(out, name)) for name in wanted & {"features", "logits", "codes"}}
    if "layers" in wanted:
        found["layers"] = np.asarray(out.layers).swapaxes(0, 1)
    if "probabilities" in wanted:
        logits: Any = out.logits
        found["probabilities"] = np.asarray(jax.nn.sigmoid(logits) if model.multi_label else jax.nn.softmax(logits))
    return {name: values[0] for name, values in found.items()}


def _places(found: Mapping[str, np.ndarray], golden: Mapping[str, np.ndarray]) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """What is compared, in the order of computation: place, kind, ours, the published code's."""
    places = []
    for index, expected in enumerate(golden.get("layers", ())):
        name = f"layer {index}" if index else "the input of layer 1"
        places.append((name, "layers", found["layers"][index], expected))
    for kind in ("features", "logits", "probabilities", "codes"):
        if kind in golden:
            places.append((f"the {kind}", kind, found[kind], golden[kind]))
    return places


def _largest_difference(ours: np.ndarray, golden: np.ndarray) -> float:
    """Of two arrays; infinite where their shapes differ, NaN where a value is."""
    return float(np.abs(ours - golden).max()) if ours.shape == golden.shape else float("inf")


def _device_name(device: Device) -> str:
    return device.device_kind if device.platform != "cpu" else "cpu"


def _numbers(folder: Path, name: str) -> dict[str, np.ndarray]:
    place = folder / f"{name}.npz"
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{place}: golden numbers are missing or damaged ({error}); see {BUILT_IN}") from error


def _manifest(folder: Path) -> dict[str, str]:
    place = folder / MANIFEST
    try:
        return dict(json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{place} is missing or damaged; golden files are a folder like {BUILT_IN}, and its README says how they are made"
        ) from error


def _find_altered(folder: Path, expected: Mapping[str, str], parts: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the case's files (or folders) that the manifest does not know, or whose hash is another."""
    wrong = []
    for part in parts:
        names = [name for name in expected if name == part or name.startswith(f"{part}/")]
        wrong += [name for name in names if not _has_hash(folder / name, expected[name])] if names else [part]
    return tuple(wrong)


def _has_hash(file: Path, sha256: str) -> bool:
    return file.is_file() and sha256_of(file) == sha256
