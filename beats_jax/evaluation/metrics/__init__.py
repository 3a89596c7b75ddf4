"""Metrics: arrays in, numbers and intervals out."""
