"""Types that all readers of recordings share: the error of one bad file, the facts of its sound, and the decoder interface."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from beats_jax.errors import UserError

AnyPath = str | os.PathLike[str]
BLOCK_FRAMES = 1 << 16  # frames decoded at a time: 0.5 MB of stereo float32
END = 1 << 62  # as the last frame: to the end of the sound


class AudioError(UserError):
    """One recording that cannot be used. `str()` is "path: reason"; errors.csv has both as cells."""

    def __init__(self, path: AnyPath, reason: str) -> None:
        self.path = Path(path)
        self.reason = " ".join(reason.split())
        super().__init__(f"{self.path}: {self.reason}")

    def __reduce__(self) -> tuple[type[AudioError], tuple[Path, str]]:
        return (type(self), (self.path, self.reason))  # so that worker processes can send it


@contextmanager
def name_surprises(path: AnyPath, doing: str) -> Iterator[None]:
    """Turns any `Exception` but a `UserError` into an `AudioError` "cannot be {doing}": bad input reaches any line of a codec."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise AudioError(path, f"cannot be {doing}: {reason}") from error


@dataclass(frozen=True)
class AudioInfo:
    """Facts of a recording."""

    frames: int  # samples per channel at the file's own rate
    sample_rate: int  # the file's own rate in Hz
    channels: int  # at least 1
    encoding: str  # container and codec, such as "WAV PCM_16" or "MOV AAC"
    exact_length: bool = True  # False where `frames` is only a header's hint; never from `io.audio_info`

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.sample_rate


class Decoder(Protocol):
    """An open recording."""

    @property
    def info(self) -> AudioInfo:
        """The header; nothing is decoded."""
        ...

    def count_samples(self) -> AudioInfo:
        """`info` with the exact length, as decoding gives it. Raises `AudioError` as `blocks`."""
        ...

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yields float32 [n, channels] of frames `start` to `stop`, full scale +-1; fewer where the sound ends before.

        Raises:
          AudioError: the sound cannot be decoded, or ends before its container's promise.
        """
        ...
