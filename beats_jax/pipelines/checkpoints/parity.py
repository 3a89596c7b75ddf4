"""Compares the encoders on this machine's devices with golden numbers of the published code.

Each entry of `CASES` covers a family: a weights file in the published layout with seeded random tensors, and the published code's
numbers for one clip (golden/README.md). The files lie in the package; nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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

Device = Any  # jax.Device, which type checkers take for a variable

BUILT_IN = Path(__file__).parent / "golden"
MANIFEST = "manifest.json"  # file → sha256


class Case(NamedTuple):
    """One model with known numbers in `<name>.npz`; `weights` is the argument of `beats_jax.load`."""

    name: str
    family: str  # name in the report
    weights: str


class Precision(NamedTuple):
    """How products are computed, and the allowed differences."""

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

FRONT_ENDS = {  # name of the file of numbers → name in the report, filterbank
    "front_end_beats": ("filterbank of BEATs", BEATS),
    "front_end_ast": ("filterbank of AST", replace(AST, target_frames=128)),
    "front_end_eat": ("filterbank of EAT", replace(EAT, target_frames=96)),
}

# Largest allowed differences. EXACT: the golden README's bounds for a float32 port (measured on CPU: 3e-6 states, 4e-7 logits,
# 9e-8 probabilities). One weight altered by 1e-3 exceeds them, except in the keys' bias, which softmax ignores, and in positions
# past the clip; hence the hashes of the files are checked too. ROUNDED: measured in bfloat16 on CPU 0.026, 0.0095, 0.0011, with
# room for other orders of summation; the numbers are of size 1 to 4, of which bfloat16 keeps 8 bits.
EXACT_LIMITS = {"layers": 2e-5, "features": 2e-5, "logits": 1e-5, "probabilities": 1e-6, "codes": 0.0}
ROUNDED_LIMITS = {"layers": 0.1, "features": 0.1, "logits": 0.05, "probabilities": 0.005, "codes": 0.1}
FRONT_END_LIMIT = 5e-4  # of normalised log-mel energies: float32 FFTs differ by that much in silence

FLOAT32 = Precision("float32", "float32", "highest", EXACT_LIMITS)
AS_COMPILED = Precision("float32, rounded products", "float32", "default", ROUNDED_LIMITS)  # TF32 on GPUs, bfloat16 on TPUs
BFLOAT16 = Precision("bfloat16", "bfloat16", "default", ROUNDED_LIMITS)


class Outcome(NamedTuple):
    """One line of the table."""

    family: str
    device: str
    precision: str
    states: float | None  # largest difference of the states after every layer (filterbank: of its energies); None = not compared
    states_allowed: float
    head: str  # the last thing compared: logits, probabilities or codes; empty = nothing
    head_difference: float  # largest difference; of codes the share of tokens with another code
    head_allowed: float
    departs: str  # the first place beyond its limit; empty = none
    altered: tuple[str, ...]  # files that differ from the manifest

    @property
    def ok(self) -> bool:
        """Whether all numbers are within their limits and all files are those of the manifest."""
        return not self.departs and not self.altered


def devices() -> list[Device]:
    """The first device of each usable platform, the default one first."""
    found = {device.platform: device for device in reversed(jax.devices())}
    try:
        found.setdefault("cpu", jax.devices("cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS names accelerators alone
        pass
    return list(found.values())


def precisions(device: Device) -> tuple[Precision, ...]:
    """The precisions to check on a device: accelerators round the factors of float32 products by default."""
    return (FLOAT32, BFLOAT16) if device.platform == "cpu" else (FLOAT32, AS_COMPILED, BFLOAT16)


def forms_of(device: Device) -> tuple[Form, ...]:
    """The formulations for batches of one clip and of many on a device; on one CPU these differ."""
    one_cpu = device.platform == "cpu" and jax.device_count("cpu") == 1
    return (Form.AUTO, Form.LOOPED) if one_cpu else (Form.AUTO,)


def prove(folder: Path | None = None) -> list[Outcome]:
    """Runs every case on the first device of every platform in every precision.

    Args:
      folder: golden files in place of the built-in ones.
    Raises:
      UserError: a file of the folder is missing or damaged.
    """
    folder = folder or BUILT_IN
    expected = _manifest(folder)
    outcomes = []
    for name, (family, config) in FRONT_ENDS.items():
        numbers = _numbers(folder, name)
        altered = _find_altered(folder, expected, (f"{name}.npz",))
        outcomes += [_prove_front_end(family, config, numbers, device, altered) for device in devices()]
    for case in CASES:
        numbers = _numbers(folder, case.name)
        altered = _find_altered(folder, expected, (case.weights, f"{case.name}.npz"))
        bundle = read_checkpoint(folder / case.weights)
        for device in devices():
            outcomes += [_prove_case(case, bundle, numbers, device, kind, altered) for kind in precisions(device)]
    return outcomes


def _prove_front_end(
    family: str, config: FilterbankConfig, numbers: Mapping[str, np.ndarray], device: Device, altered: tuple[str, ...]
) -> Outcome:
    with jax.default_device(device):
        fbank, _ = filterbank(numbers["waveform"][None], None, config)
    difference = _largest_difference(np.asarray(fbank)[0], numbers["fbank"])
    departs = "" if difference <= FRONT_END_LIMIT else "the filterbank"
    return Outcome(family, _device_name(device), "float32", difference, FRONT_END_LIMIT, "", 0.0, 0.0, departs, altered)


def _prove_case(
    case: Case, bundle: Bundle, numbers: Mapping[str, np.ndarray], device: Device, precision: Precision, altered: tuple[str, ...]
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
    """Our numbers of the wanted kinds, for one clip."""
    out = model.encode_fbank(fbank[None], layers="layers" in wanted)
    found = {name: np.asarray(getattr(out, name)) for name in wanted & {"features", "logits", "codes"}}
    if "layers" in wanted:
        found["layers"] = np.asarray(out.layers).swapaxes(0, 1)
    if "probabilities" in wanted:
        logits: Any = out.logits
        found["probabilities"] = np.asarray(jax.nn.sigmoid(logits) if model.multi_label else jax.nn.softmax(logits))
    return {name: values[0] for name, values in found.items()}


def _places(
    found: Mapping[str, np.ndarray], golden: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """The pairs to compare, in the order of computation: place, kind, ours, the published code's."""
    for index, expected in enumerate(golden.get("layers", ())):
        yield f"layer {index}" if index else "the input of layer 1", "layers", found["layers"][index], expected
    for kind in ("features", "logits", "probabilities", "codes"):
        if kind in golden:
            yield f"the {kind}", kind, found[kind], golden[kind]


def _largest_difference(ours: np.ndarray, golden: np.ndarray) -> float:
    """Largest difference of two arrays; infinite if their shapes differ, NaN if a value is NaN."""
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
    """The files among `parts` (files or folders) that the manifest lacks or that have another hash."""
    wrong = []
    for part in parts:
        names = [name for name in expected if name == part or name.startswith(f"{part}/")] or [part]
        wrong += [name for name in names if not (folder / name).is_file() or sha256_of(folder / name) != expected.get(name)]
    return tuple(wrong)
