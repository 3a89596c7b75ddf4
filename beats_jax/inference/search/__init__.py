"""Embeddings on disk, opened as one table and searched for the windows most like a clip."""
