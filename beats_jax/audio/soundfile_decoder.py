"""WAV, FLAC, OGG, OPUS, MP3 and AIFF through libsndfile.

Facts handled here: its errors are RuntimeErrors; a short read is no error; a FLAC without a length reports 2**63 - 1 frames; OPUS
is up to 2e-3 off after a seek, so it is always decoded from its start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from beats_jax.audio.recording import BLOCK_FRAMES, AudioError, AudioInfo

LARGEST_LENGTH = 1 << 48  # more than 20 years at 384 kHz: a header that says more does not know its length


class SoundfileDecoder:
    """An open `soundfile.SoundFile` (a `recording.Decoder`)."""

    def __init__(self, path: Path, sound: soundfile.SoundFile) -> None:
        self._path = path
        self._sound = sound
        if sound.frames > LARGEST_LENGTH:
            raise AudioError(path, "its header gives no length: still being written, or cut off while recording")
        self.info = AudioInfo(sound.frames, sound.samplerate, sound.channels, f"{sound.format} {sound.subtype}")

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """See `recording.Decoder.blocks`."""
        position = 0 if self._sound.subtype == "OPUS" else start
        try:
            self._sound.seek(position)
            while position < stop:
                wanted = min(BLOCK_FRAMES, stop - position)
                block = self._sound.read(wanted, dtype="float32", always_2d=True)
                position += len(block)
                if position > start:
                    yield block[max(0, start - (position - len(block))) :]
                if len(block) < wanted:
                    return
        except soundfile.LibsndfileError as error:
            seconds = position / self.info.sample_rate
            raise AudioError(self._path, f"cannot be decoded: {_plain(error)} (in the block from {seconds:.2f} s)") from error


@contextmanager
def open_soundfile(path: Path) -> Iterator[SoundfileDecoder]:
    """Opens `path`, which must exist.

    Raises:
      AudioError: libsndfile does not know the format, or the header cannot be read or gives no length.
    """
    try:
        # bytes, which its annotation lacks, let through any file name that the system allows
        sound = soundfile.SoundFile(os.fsencode(path))  # pyright: ignore[reportArgumentType]
    except soundfile.LibsndfileError as error:
        raise AudioError(path, f"not readable as audio: {_plain(error)}") from error
    with sound:
        yield SoundfileDecoder(path, sound)


def _plain(error: soundfile.LibsndfileError) -> str:
    """libsndfile's words without its ornaments; of a very short MP3 it says, wrongly, that the file does not exist."""
    text = error.error_string.removeprefix("Error :").strip().rstrip(".")
    return "Format not recognised" if "does not exist" in text else text
