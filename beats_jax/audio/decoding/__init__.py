"""Decoding: containers, codecs, and what a decoder really delivers."""
