"""Recordings and labels: one manifest type, its sources, splits, validation and the grain loader. Host side: numpy only."""
