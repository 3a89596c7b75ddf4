"""Probes: small classifiers on frozen embeddings, as pure JAX functions; the sweep over layers, poolings and strengths."""
