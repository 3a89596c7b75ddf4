"""Measuring: evaluates models, compares runs, writes their results."""
