"""A model on its way back to the code that published its family."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np


class Upstream(NamedTuple):
    """A model in its family's published layout."""

    content: dict[str, Any]  # what `torch.save` would be given
    state_dict: dict[str, np.ndarray]  # the tensors alone, for safetensors
    beside: Mapping[str, Any]  # file name → JSON that belongs beside a safetensors file
    beside_torch: Mapping[str, Any] = MappingProxyType({})  # the same for a `.pt` file that cannot hold what it must state
