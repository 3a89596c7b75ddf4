"""M4A, AAC and WMA through PyAV (FFmpeg's libraries).

Facts handled here:
- Samples come as int16, int32 or float, planar or interleaved, by codec: all become float32 of full scale +-1.
- The edit list of an M4A trims the encoder's priming but not its tail: what goes beyond the track's duration is cut.
- Raw AAC has no edit list (its first 1,024 samples are priming) and no duration: its packets are counted. It and WMA cannot be
  sought to the sample, so they are decoded from the start. WMA gives its duration in milliseconds: an estimate.
- A decoder that fails may give fewer samples in silence: the caller compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.recording import AudioError, AudioInfo

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer

SEEK_MARGIN_SECONDS = 0.2  # decoded before the wanted sample, so that overlapping AAC frames have settled


class PyAVDecoder:
    """An open PyAV container (a `recording.Decoder`)."""

    def __init__(self, path: Path, container: InputContainer) -> None:
        if not container.streams.audio:
            raise AudioError(path, "has no audio track")
        self._path = path
        self._container = container
        self._stream: Any = container.streams.audio[0]
        if self._stream.codec_context is None:
            raise AudioError(path, "not readable as audio: unknown codec")
        if not self._stream.rate or not self._stream.channels:
            raise AudioError(path, "the header of its audio track is incomplete")
        self._rate = int(self._stream.rate)
        self._sample_exact = self._stream.time_base * self._rate == 1  # time stamps count samples: M4A
        frames, exact = self._length()
        encoding = f"{container.format.name.split(',')[0]} {self._stream.codec_context.name}".upper()
        self.info = AudioInfo(frames, self._rate, int(self._stream.channels), encoding, exact)

    def _length(self) -> tuple[int, bool]:
        """Frames of the track, and whether that is exact."""
        if self._container.format.name == "aac":
            ticks = sum(packet.duration or 0 for packet in self._container.demux(self._stream))
            self._container.seek(0)
            return round(ticks * self._stream.time_base * self._rate), True
        ticks = self._stream.duration or 0
        return round(ticks * self._stream.time_base * self._rate), self._sample_exact

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """See `recording.Decoder.blocks`."""
        from av.error import FFmpegError

        origin = int(self._stream.start_time or 0)
        position, placed = 0, not self._sample_exact
        try:
            target = start - round(SEEK_MARGIN_SECONDS * self._rate)
            if self._sample_exact and target > 0:  # a seek to 0 would leave out the priming and so spoil the first 1,024 samples
                self._container.seek(target + origin, stream=self._stream)
            for frame in self._container.decode(self._stream):
                if not placed:
                    position, placed = (frame.pts or 0) - origin, True
                block = self._samples(frame)
                first, last = max(0, start - position), min(len(block), stop - position)
                position += len(block)
                if first < last:
                    yield block[first:last]
                if position >= stop:
                    return
        except FFmpegError as error:
            seconds = position / self._rate
            raise AudioError(self._path, f"cannot be decoded: {error.strerror} (at {seconds:.2f} s)") from error

    def _samples(self, frame: AudioFrame) -> np.ndarray:
        """float32 [n, channels] of one decoded frame."""
        channels = len(frame.layout.channels)
        if frame.sample_rate != self._rate or channels != self.info.channels:
            found = f"{frame.sample_rate} Hz and {channels} channels"
            raise AudioError(self._path, f"header says {self._rate} Hz and {self.info.channels} channels, the sound has {found}")
        values = frame.to_ndarray()
        values = values.T if frame.format.is_planar else values.reshape(-1, channels)
        if values.dtype == np.uint8:
            return (values.astype(np.float32) - 128) / 128
        if np.issubdtype(values.dtype, np.integer):
            return (values / float(1 << (8 * values.itemsize - 1))).astype(np.float32)
        return values.astype(np.float32)


@contextmanager
def open_pyav(path: Path) -> Iterator[PyAVDecoder]:
    """Opens `path`, which must exist.

    Raises:
      AudioError: FFmpeg does not know the format, or the file has no audio track.
    """
    import av
    from av.error import FFmpegError

    with path.open("rb") as file:  # an open file: FFmpeg takes a name such as "12:30.m4a" for a protocol
        try:
            container = av.open(file, mode="r")
        except FFmpegError as error:  # its words mislead here ("Operation not permitted" for a cut header)
            raise AudioError(path, "not readable as audio: header incomplete or format not recognised") from error
        with container:
            yield PyAVDecoder(path, container)
