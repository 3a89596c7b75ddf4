"""Probing: simple classifiers on frozen embeddings."""
