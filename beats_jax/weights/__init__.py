"""Checkpoints of others and our own: readers, key maps, and the loaded `Model`."""
