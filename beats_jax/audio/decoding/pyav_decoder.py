"""Compressed sound through PyAV (FFmpeg's libraries): MP3, FLAC, Ogg (Vorbis, Opus, FLAC), M4A, AAC, WMA, and others.

FFmpeg reports little of what this file checks:
- The length in a header is a hint (MP3 without Xing header, FLAC whose STREAMINFO is empty or wrong), so sound is decoded to its
  end and compared there with the promise of the container. The edit list of an M4A trims the encoder's priming but not its
  tail, so sound beyond the track's duration is cut.
- A seek is exact where time stamps count samples and the codec's memory fades within `MEMORY_SECONDS`. AAC is decoded from
  its start: it fills bands with noise from a generator whose state starts there (up to 0.17 off after a seek). WMA and
  Matroska are too, because their time stamps count milliseconds.
- Lost sound in the middle shows only in the time stamps of FLAC and Ogg.
- A part of a frame at the end of a raw MP3 or AAC is left out, because nothing promised it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.recording import BLOCK_FRAMES, END, AudioError, AudioInfo

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer

# decoded before a window; measured: Opus at 8 kbit/s is 1e-4 off after 1 s, 0 after 5; MP3 at 8 kbit/s 0.4 after 0.2 s, 0 after 1
MEMORY_SECONDS = {"opus": 5.0, "mp3": 1.0, "mp3float": 1.0, "vorbis": 0.5}
LOSSLESS_MEMORY = 0.1  # none; for seeks that land a little late
LONGEST_PAGE_SECONDS = 10.0
FAR = 1 << 50  # samples, behind any end: a seek to it gives the last frame
SOUGHT = {  # codecs whose windows are those of the whole, by container
    "mp3": ("mp3", "mp3float"),
    "flac": ("flac",),
    "ogg": ("vorbis", "opus"),  # not flac: in the last page its time stamps are wrong after a seek
    "mov": ("alac", "flac", "opus", "mp3float", "pcm"),
    "wav": ("pcm",),
    "w64": ("pcm",),
    "caf": ("pcm", "alac"),
    "aiff": ("pcm",),
}
RAW = ("mp3", "aac")  # frames without a container
LARGEST_PADDING = 3 * 1_152  # samples of silence that an MP3 encoder adds at the end
PROMISE_SLACK = {"asf": 0.25, "matroska": 0.25, "mov": 0.0}  # seconds a duration may be off; others promise nothing
HOLE_FRAMES = {"flac": 0, "ogg": 2_048}  # more than this between two frames is missing sound; 2,048: see `_frames`


class PyAVDecoder:
    """One stream that FFmpeg decodes (a `recording.Decoder`)."""

    def __init__(self, path: Path, reopen: Callable[[], InputContainer], promise: int | None) -> None:
        """`reopen` opens a fresh container for each pass, because a seek back to 0 would skip the priming."""
        self._path = path
        self._reopen = reopen
        self._unused: InputContainer | None = reopen()
        stream = self._audio(self._unused)
        self._format = self._unused.format.name.split(",")[0]
        self._codec = stream.codec_context.name
        self._rate = int(stream.rate)
        self._tick = stream.time_base * self._rate  # samples in one tick of the time stamps
        self._origin = int(stream.start_time or 0)
        known = stream.duration is not None
        self._duration = round(stream.duration * self._tick if known else (self._unused.duration or 0) * self._rate / 1_000_000)
        self._promise = promise
        codecs = SOUGHT.get(self._format, ())
        self._sought = (1 / self._tick).denominator == 1 and (self._codec in codecs or self._codec.split("_")[0] in codecs)
        encoding = f"{self._format} {self._codec.removesuffix('float')}".upper()
        self.info = AudioInfo(self._duration, self._rate, int(stream.channels), encoding, exact_length=False)
        self._require_last_page(stream)
        self._cut = self._cut_end(stream)

    def count_samples(self) -> AudioInfo:
        """Seeks to the last frame where it can; WMA and Matroska are decoded whole."""
        if self._format == "mov" and self._duration and self._tick == 1:
            return replace(self.info, frames=self._duration, exact_length=True)
        frames = min(self._cut, self._last_end()) if self._sought or self._format in RAW else 0
        return replace(self.info, frames=frames or sum(map(len, self.blocks(0, END))), exact_length=True)

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        stop = min(stop, self._cut)
        held: list[np.ndarray] = []
        frames = 0
        try:
            for position, values in self._decode(start):
                part = values[max(0, start - position) : max(0, stop - position)]
                if len(part):
                    held.append(part)
                    frames += len(part)
                if frames >= BLOCK_FRAMES:
                    yield _float32(held)
                    held, frames = [], 0
                if position + len(values) >= stop:
                    break
        except AudioError:
            if held:
                yield _float32(held)  # the sound before the damage is good
            raise
        if held:
            yield _float32(held)

    def _decode(self, start: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (position, samples [n, channels]) of every frame from `start` or before it to the end, which is checked."""
        from av.error import FFmpegError

        for target in self._targets(start):
            position = None if target else 0
            with self._container() as container:
                stream = self._audio(container)
                if target and not self._seek(container, stream, target):
                    continue
                try:
                    for frame in self._frames(container, stream, sought=target > 0):
                        landed, position = position is None, self._place(frame, position)
                        if landed and position > start:
                            break  # too late: the next target lies before this one
                        yield position, self._samples(frame)
                        position += frame.samples
                    else:
                        if position is not None:
                            self._require_promised(position)
                            return
                except FFmpegError as error:
                    seconds = (position or 0) / self._rate
                    raise AudioError(self._path, f"cannot be decoded: {error.strerror} (at {seconds:.2f} s)") from error

    def _targets(self, start: int) -> Iterator[int]:
        """Where to start decoding so that the samples from `start` on equal those of the whole: the nearest place first, 0 last.

        A seek may fail in the last frames, and in Ogg land a page late.
        """
        memory = MEMORY_SECONDS.get(self._codec, LOSSLESS_MEMORY)
        for seconds in (memory, memory + LONGEST_PAGE_SECONDS) if self._sought and not self._is_joined(start) else ():
            target = start - round(seconds * self._rate)
            if target > 0:
                yield target
        yield 0  # without a seek

    def _seek(self, container: InputContainer, stream: Any, target: int) -> bool:
        from av.error import FFmpegError

        try:
            container.seek(round(target / self._tick) + self._origin, stream=stream)
        except FFmpegError:
            return False
        return True

    def _frames(self, container: InputContainer, stream: Any, sought: bool) -> Iterator[AudioFrame]:
        """Decoded frames; for Vorbis after a seek, from the first frame whose time stamp the next one confirms.

        FFmpeg misjudges a block whose length changes: the samples of the first one after a seek, the time stamp of others.
        """
        frames = self._decode_frames(container, stream)
        before: AudioFrame | None = None
        while sought and self._codec == "vorbis" and (frame := next(frames, None)) is not None:
            if before is not None and before.pts is not None and frame.pts == before.pts + round(before.samples / self._tick):
                yield from (before, frame)
                break
            before = frame
        yield from frames

    def _decode_frames(self, container: InputContainer, stream: Any) -> Iterator[AudioFrame]:
        """Every frame. In a raw stream a packet that fails is an error only if sound follows it."""
        from av.error import FFmpegError

        failed: FFmpegError | None = None
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except FFmpegError as error:
                if self._format not in RAW:
                    raise
                failed = failed or error
                continue
            if failed is not None and frames:
                raise failed
            yield from frames

    def _place(self, frame: AudioFrame, position: int | None) -> int:
        """Where a frame begins. Raises `AudioError` where sound before it is missing."""
        if frame.pts is None and position is None:
            raise AudioError(self._path, "cannot be decoded: a damaged frame lies before the window")
        if frame.pts is None or (position is not None and self._format not in HOLE_FRAMES):
            return position or 0
        stamped = self._position_of(frame.pts)
        if position is None:
            return stamped
        if stamped - position > HOLE_FRAMES[self._format]:
            hole = f"{position / self._rate:.2f} to {stamped / self._rate:.2f} s"
            raise AudioError(self._path, f"cannot be decoded whole: the sound from {hole} is missing")
        return position

    def _cut_end(self, stream: Any) -> int:
        """The end of an M4A's track, or of Opus by its last page (FFmpeg obeys that only with an end flag); else `END`."""
        if self._format == "mov" and self._duration:
            return self._duration
        if self._format == "ogg" and self._codec == "opus" and self._promise is not None:
            skipped = int.from_bytes(stream.codec_context.extradata[10:12], "little")  # RFC 7845: pre-skip
            return max(0, self._promise - self._origin - skipped) or END
        return END

    def _position_of(self, pts: int) -> int:
        return round((pts - self._origin) * self._tick.numerator / self._tick.denominator)

    def _xing_end(self) -> int | None:
        """The end of an MP3's sound by its first frame, without the encoder's padding; None where FFmpeg does not trust it.

        FFmpeg ignores a header that counts much less than the file (joined files); its duration is then a guess.
        """
        if self._format != "mp3" or self._promise is None:
            return None
        padded = self._promise * (1_152 if self._rate >= 32_000 else 576) - round(self._origin * self._tick)
        return self._duration if 0 <= padded - self._duration < LARGEST_PADDING else None

    def _is_joined(self, target: int) -> bool:
        """Whether `target` lies behind the first of joined MP3 files, where time stamps also count the padding of that file."""
        end = self._xing_end()
        return end is not None and target >= end

    def _last_end(self) -> int:
        """Samples to the end of the last frame, found by a seek; 0 where that fails."""
        with self._container() as container:
            stream = self._audio(container)
            if not self._seek(container, stream, FAR):
                return 0
            end = 0
            for frame in self._frames(container, stream, sought=True):
                if not end and frame.pts is None:
                    return 0
                end = (end or self._position_of(frame.pts or 0)) + frame.samples
        if not end or self._is_joined(end - 1):  # the last frame of an MP3 may need bytes of the ones before
            return 0
        self._require_promised(end)
        return end

    def _require_last_page(self, stream: Any) -> None:
        """FFmpeg skips an Ogg page whose checksum is wrong; for the last page only the duration shows it."""
        samples = self._codec in (*SOUGHT["ogg"], "flac")  # the codecs whose page positions count samples
        if self._format != "ogg" or self._promise is None or stream.duration is None or not samples:
            return
        lost = self._promise - self._origin - stream.duration
        if lost > HOLE_FRAMES["ogg"]:
            raise AudioError(self._path, f"truncated or damaged: the last {lost / self._rate:.2f} s cannot be decoded")

    def _require_promised(self, position: int) -> None:
        slack = PROMISE_SLACK.get(self._format)
        if self._xing_end() is not None:
            slack = 1_152 / self._rate  # some encoders count the first frame, which holds no sound
        if slack is not None and self._duration - position > slack * self._rate:
            raise AudioError(self._path, f"truncated: {position} of {self._duration} samples could be decoded")

    @contextmanager
    def _container(self) -> Iterator[InputContainer]:
        container, self._unused = self._unused or self._reopen(), None
        with container:
            yield container

    def _audio(self, container: InputContainer) -> Any:
        if not container.streams.audio:
            raise AudioError(self._path, "has no audio track")
        stream: Any = container.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError(self._path, "not readable as audio: unknown codec")
        if not stream.rate or not stream.channels:
            raise AudioError(self._path, "the header of its audio track is incomplete")
        if stream.codec_context.name == "flac":
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        return stream

    def _samples(self, frame: AudioFrame) -> np.ndarray:
        """[n, channels] of one decoded frame, of the codec's own type."""
        channels = len(frame.layout.channels)
        if frame.sample_rate != self._rate or channels != self.info.channels:
            found = f"{frame.sample_rate} Hz and {channels} channels"
            raise AudioError(self._path, f"header: {self._rate} Hz and {self.info.channels} channels; sound: {found}")
        values = frame.to_ndarray()
        return values.T if frame.format.is_planar else values.reshape(-1, channels)


def _float32(parts: list[np.ndarray]) -> np.ndarray:
    values = np.concatenate(parts)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if np.issubdtype(values.dtype, np.integer):
        return values.astype(np.float32) * np.float32(2.0 ** (1 - 8 * values.itemsize))
    return values.astype(np.float32)
