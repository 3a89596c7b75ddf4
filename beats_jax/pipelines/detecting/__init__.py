"""Scores of every window of recordings, and the events in them."""
