"""Chooses the decoder of a recording by its content. Chained Ogg streams, each with its own header, become one recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.decoding.byte_ranges import ByteRanges, SoundStream
from beats_jax.audio.decoding.containers import inspect
from beats_jax.audio.decoding.pyav_decoder import PyAVDecoder
from beats_jax.audio.decoding.soundfile_decoder import open_soundfile
from beats_jax.audio.decoding.tfds_records import is_record, read_record
from beats_jax.audio.recording import END, AnyPath, AudioError, AudioInfo, Decoder, name_surprises

if TYPE_CHECKING:
    from av.container import InputContainer

FORMATS = "mp3,aac,mov,flac,ogg,asf,matroska,wav,w64,caf,aiff,au,amr,wv,tta,ape,nistsphere"  # no playlists: they open other files
NO_SAMPLES = "no samples: there is a header but no sound"


@contextmanager
def open_decoder(path: AnyPath) -> Iterator[Decoder]:
    """Opens the decoder for `path`, after the checks that need no decoding. Raises `AudioError`."""
    path = Path(path)
    with ExitStack() as stack:
        with name_surprises(path, "opened"):
            decoder = _decoder(path, stack)
        if decoder.info.exact_length and decoder.info.frames <= 0:
            raise AudioError(path, NO_SAMPLES)
        yield decoder


def _decoder(path: Path, stack: ExitStack) -> Decoder:
    if is_record(path):
        return read_record(path)
    uncompressed, streams, fault = inspect(path)
    if len(streams) > 1:
        return ChainDecoder(path, streams)
    if uncompressed:
        try:
            return stack.enter_context(open_soundfile(path, fault))
        except AudioError:  # MP3 or AAC in a WAV, BW64, a rare codec: PyAV decides
            pass
    if fault is not None:
        raise fault
    return stack.enter_context(open_pyav(path, streams[0]))


@contextmanager
def open_pyav(path: Path, stream: SoundStream) -> Iterator[PyAVDecoder]:
    """Opens one stream of `path`, which must exist.

    Raises:
      AudioError: FFmpeg does not know the format, or the file has no audio track.
    """
    import av
    from av.error import FFmpegError

    # for tags that are not UTF-8; PyAV 19 replaces their bytes by default and dropped the argument
    latin_1: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    with ExitStack() as stack:

        def reopen() -> InputContainer:
            # an open file, not a name: FFmpeg reads "12:30.m4a" as a protocol
            file = ByteRanges(stack.enter_context(path.open("rb")), stream.ranges)
            try:
                opened = av.open(file, mode="r", options={"format_whitelist": FORMATS}, **latin_1)
            except FFmpegError as error:  # its message misleads ("Operation not permitted" for a cut header)
                raise AudioError(path, "not readable as audio: header incomplete or format not recognised") from error
            return stack.enter_context(opened)

        yield PyAVDecoder(path, reopen, stream.promise)


class ChainDecoder:
    """The links of an Ogg chain as one recording (a `recording.Decoder`). One link is open at a time: there may be hundreds."""

    def __init__(self, path: Path, streams: list[SoundStream]) -> None:
        self._path = path
        self._streams = streams
        with open_pyav(path, streams[0]) as decoder:
            self.info = replace(decoder.info, exact_length=False)

    def count_samples(self) -> AudioInfo:
        frames = 0
        for stream in self._streams:
            with open_pyav(self._path, stream) as decoder:
                self._require_alike(decoder.info)
                frames += decoder.count_samples().frames
        return replace(self.info, frames=frames, exact_length=True)

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Links before `start` are counted, not decoded."""
        begins = 0
        for stream in self._streams:
            with open_pyav(self._path, stream) as decoder:
                self._require_alike(decoder.info)
                length = decoder.count_samples().frames if start > begins else END
                if start - begins < length:
                    position = max(0, start - begins)
                    for block in decoder.blocks(position, stop - begins):
                        position += len(block)
                        yield block
                    length = position
                begins += length
                if begins >= stop:
                    return

    def _require_alike(self, info: AudioInfo) -> None:
        if (info.sample_rate, info.channels) != (self.info.sample_rate, self.info.channels):
            first, other = (f"{one.sample_rate} Hz and {one.channels} channels" for one in (self.info, info))
            raise AudioError(self._path, f"chained: its streams differ ({first}, then {other}); make a file of each")
