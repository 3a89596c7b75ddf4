"""Machines by name: devices, memory, and the makers' peak figures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from beats_jax.errors import UserError


@dataclass(frozen=True)
class Device:
    """One device as JAX counts them.

    Attributes:
      memory: bytes. flops: peak of dense bfloat16 products, per second; 0 = not known. bandwidth: bytes per second of its memory.
      link: bytes per second to the other devices of a machine or slice, in one direction.
      cores: how many units of the maker's name a device has (a v5p-256 has 128 chips of two cores each).
    """

    memory: float
    flops: float
    bandwidth: float
    link: float
    cores: int = 1


@dataclass(frozen=True)
class Machine:
    """`count` devices of a kind."""

    name: str
    device: Device
    count: int

    @property
    def is_simulated(self) -> bool:
        """CPU devices of this machine, whose figures can be compared with a run."""
        return self.device.flops == 0


# Data sheets of NVIDIA (A100, H100 SXM, H200, B200; dense, without sparsity) and of Google Cloud's TPU pages, 2026.
DEVICES = {
    "a100": Device(80e9, 312e12, 2.04e12, 300e9),
    "h100": Device(80e9, 989e12, 3.35e12, 450e9),
    "h200": Device(141e9, 989e12, 4.8e12, 450e9),
    "b200": Device(180e9, 2250e12, 7.7e12, 900e9),
    "v4": Device(32e9, 275e12, 1.23e12, 150e9, cores=2),
    "v5e": Device(16e9, 197e12, 0.82e12, 100e9),
    "v5p": Device(95e9, 459e12, 2.77e12, 300e9, cores=2),
    "v6e": Device(32e9, 918e12, 1.64e12, 200e9),
    "cpu": Device(0, 0, 0, 0),
}
_NAMES = re.compile(r"(?:(?P<first>\d+)x)?(?P<kind>[a-z]+\d*[a-z]?)(?:-(?P<last>\d+))?")


def machine_of(name: str) -> Machine:
    """`8xH100` (eight of them), `v5e-64`, `v5p-256` (as Google counts: 128 chips), `cpu-8` (simulated devices of this machine).

    Raises:
      UserError: an unknown name.
    """
    found = _NAMES.fullmatch(name.lower())
    kind = found["kind"] if found else ""
    if found is None or kind not in DEVICES or (found["first"] and found["last"]):
        raise UserError(f"--plan {name} is unknown; it takes a number of {', '.join(DEVICES)}: 8xH100, v5e-64, v5p-256, cpu-8")
    units, device = int(found["first"] or found["last"] or DEVICES[kind].cores), DEVICES[kind]
    if units < 1 or units % device.cores:
        raise UserError(f"--plan {name}: {kind} is counted in cores, {device.cores} a chip; give a multiple of {device.cores}")
    return Machine(name, device, units // device.cores)
