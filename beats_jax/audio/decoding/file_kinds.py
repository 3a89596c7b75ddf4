"""Sorts files by name and first bytes: a recording, perhaps one, or surely something else."""

from __future__ import annotations

import os

AUDIO_SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .m4a .aac .wma".split())
"""Suffixes of recordings, in lower case; files match in any case."""

MEDIA_SUFFIXES = frozenset(
    ".3g2 .3gp .ac3 .adts .aifc .amr .ape .au .avi .bwf .caf .dff .dsf .dts .flv .gsm .m2ts .m4b .mka .mkv .mov .mp2 .mp4 .mpc "
    ".mpeg .mpg .mpga .mts .ogv .ogx .pcm .ra .rf64 .rm .snd .sph .spx .sud .tta .voc .w4v .w64 .wac .wave .weba .webm .wmv "
    ".wv".split()
)
"""Suffixes that promise sound, perhaps of a format that no decoder knows: a file with one is used, or listed as an error."""

OTHER_SUFFIXES = frozenset(
    # texts and tables, annotations among them
    ".bib .cfg .csv .cue .eaf .gpx .htm .html .ini .jams .json .jsonl .kml .lab .log .lrc .m3u .m3u8 .md .md5 .pls .rst .rtf "
    ".sha1 .sha256 .srt .tex .textgrid .toml .tsv .txt .vtt .xml .yaml .yml "
    # documents and pictures
    ".bmp .doc .docx .gif .heic .ico .jpeg .jpg .ods .odt .pdf .png .ppt .pptx .svg .tif .tiff .webp .xls .xlsx "
    # archives, arrays, weights, programs
    ".7z .array_record .arrow .bat .bz2 .ckpt .db .dll .exe .feather .gz .h5 .hdf5 .ipynb .lnk .m .mat .mid .midi .npy .npz "
    ".onnx .parquet .pkl .pt .pth .py .r .rar .safetensors .sh .sqlite .sqlite3 .tar .tfrecord .tgz .url .xz .zip .zst".split()
)
"""Suffixes of files that people keep beside recordings; they are counted and not opened."""

UNFINISHED_SUFFIXES = frozenset({".crdownload", ".download", ".filepart", ".part", ".partial", ".temp", ".tmp"})
SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})

HEAD_BYTES = 64
_STARTS = (
    b"fLaC", b"OggS", b"ID3", b"caff", b".snd", b"riff", b"wvpk", b"#!AMR", b"MAC ", b"TTA1", b"MP+", b"MPCK", b"NIST_1A",
    b"Creative Voice File", b"DSD ", b"FRM8", b"ADIF", b".RMF", b"FLV\x01", b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11",
    b"\x00\x00\x01\xba",
)  # fmt: skip
_FORMS = {b"RIFF", b"RF64", b"BW64", b"RIFX", b"FORM"}  # the kind of content stands at byte 8
_HELD = {b"WAVE", b"AVI ", b"AIFF", b"AIFC"}
_ATOMS = {b"ftyp", b"moov", b"mdat", b"wide"}  # at byte 4 of MP4, M4A, 3GP, QuickTime
_PICTURES = {b"heic", b"heix", b"mif1", b"avif"}  # at byte 8, after ftyp
_SYNC = {0xE2, 0xE3, 0xF0, 0xF1, 0xF2, 0xF3, 0xF8, 0xF9, 0xFA, 0xFB, 0xFC, 0xFD}  # after 0xFF: frames of MPEG audio and ADTS


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden (macOS writes "._x.wav" beside files), or a folder that an operating system made."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def is_recording_name(name: str) -> bool:
    """Whether a file is a recording by its suffix, and not hidden."""
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES and not is_hidden(name)


def looks_like_sound(head: bytes) -> bool:
    """Whether a file begins (`HEAD_BYTES`) like a container that may hold sound; whether it does, only decoding shows."""
    if head.startswith(_STARTS):
        return True
    if head[:4] in _FORMS:
        return head[8:12] in _HELD
    if head[4:8] in _ATOMS:
        return head[8:12] not in _PICTURES
    return len(head) > 2 and head[0] == 0xFF and head[1] in _SYNC
