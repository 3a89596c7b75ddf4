"""WAV, AIFF and other uncompressed sound through libsndfile.

Facts handled here: its errors are RuntimeErrors; a short read is no error; GSM 6.10 and G.72x cannot be sought, not even to their
start. What it does badly is PyAV's: OPUS is 2e-3 off after a seek, Vorbis shifted in the last page, of chained Ogg only the first
stream is read, MP3 and FLAC end where their header says, and libmpg123 writes its warnings to the terminal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from beats_jax.audio.recording import BLOCK_FRAMES, AudioError, AudioInfo


class SoundfileDecoder:
    """An open `soundfile.SoundFile` (a `recording.Decoder`)."""

    def __init__(self, path: Path, sound: soundfile.SoundFile) -> None:
        self._path = path
        self._sound = sound
        self.info = AudioInfo(sound.frames, sound.samplerate, sound.channels, f"{sound.format} {sound.subtype}")

    def count_samples(self) -> AudioInfo:
        """See `recording.Decoder.count_samples`: libsndfile counts from the bytes of the file."""
        return self.info

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """See `recording.Decoder.blocks`."""
        position, stop = 0, min(stop, self.info.frames)
        try:
            if self._sound.seekable() and start < stop:
                position = self._sound.seek(start)
            while position < stop:
                wanted = min(BLOCK_FRAMES, stop - position)
                block = self._sound.read(wanted, dtype="float32", always_2d=True)
                position += len(block)
                if position > start:
                    yield block[max(0, start - (position - len(block))) :]
                if len(block) < wanted:
                    raise AudioError(self._path, f"truncated: {position} of {self.info.frames} samples could be decoded")
        except soundfile.LibsndfileError as error:
            seconds = position / self.info.sample_rate
            raise AudioError(self._path, f"cannot be decoded: {_plain(error)} (in the block from {seconds:.2f} s)") from error


@contextmanager
def open_soundfile(path: Path) -> Iterator[SoundfileDecoder]:
    """Opens `path`, which must exist.

    Raises:
      AudioError: libsndfile does not know the format, or the header cannot be read.
    """
    try:
        # bytes, which its annotation lacks, let through any file name that the system allows
        sound = soundfile.SoundFile(os.fsencode(path))  # pyright: ignore[reportArgumentType]
    except soundfile.LibsndfileError as error:
        raise AudioError(path, f"not readable as audio: {_plain(error)}") from error
    with sound:
        if sound.subtype.startswith("MPEG"):
            raise AudioError(path, "MPEG audio, which is PyAV's")
        yield SoundfileDecoder(path, sound)


def _plain(error: soundfile.LibsndfileError) -> str:
    """libsndfile's words without its ornaments."""
    return error.error_string.removeprefix("Error :").strip().rstrip(".")
