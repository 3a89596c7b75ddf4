"""Embeddings: how well they use their space."""
