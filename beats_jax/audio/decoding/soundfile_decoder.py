"""WAV, AIFF and other uncompressed sound through libsndfile.

A short read is no error there, so it is checked here; GSM 6.10 and G.72x cannot seek, not even to their start.
PyAV reads compressed sound, because libsndfile is 2e-3 off in Opus after a seek, shifts Vorbis in the last page (its issue 885),
reads only the first of chained Ogg streams, ends MP3 and FLAC where their header says, and lets libmpg123 write to the terminal.
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

    def __init__(self, path: Path, sound: soundfile.SoundFile, fault: AudioError | None = None) -> None:
        """fault: why the sound ends too early. The sound before its end can be read."""
        self._path = path
        self._sound = sound
        self._fault = fault
        self.info = AudioInfo(sound.frames, sound.samplerate, sound.channels, f"{sound.format} {sound.subtype}")

    def count_samples(self) -> AudioInfo:
        if self._fault is not None:
            raise self._fault
        return self.info  # libsndfile counts from the bytes of the file

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        position, wished, stop = 0, stop, min(stop, self.info.frames)
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
        if self._fault is not None and wished > stop:
            raise self._fault


@contextmanager
def open_soundfile(path: Path, fault: AudioError | None = None) -> Iterator[SoundfileDecoder]:
    """Opens `path`, which must exist; fault: as of `SoundfileDecoder`.

    Raises:
      AudioError: libsndfile does not know the format, or the header cannot be read.
    """
    try:
        # as bytes, which its annotation lacks: a file name need not be UTF-8
        sound = soundfile.SoundFile(os.fsencode(path))  # pyright: ignore[reportArgumentType]
    except soundfile.LibsndfileError as error:
        raise AudioError(path, f"not readable as audio: {_plain(error)}") from error
    with sound:
        if sound.subtype.startswith("MPEG"):
            raise AudioError(path, "MPEG audio, which PyAV reads")
        yield SoundfileDecoder(path, sound, fault)


def _plain(error: soundfile.LibsndfileError) -> str:
    """The message of libsndfile without its prefix and full stop."""
    return error.error_string.removeprefix("Error :").strip().rstrip(".")
