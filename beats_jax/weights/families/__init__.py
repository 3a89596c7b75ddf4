"""Checkpoints of each model family: key maps and layouts of files."""
