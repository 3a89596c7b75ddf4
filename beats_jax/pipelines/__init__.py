"""Whole jobs that compose the rooms below."""
