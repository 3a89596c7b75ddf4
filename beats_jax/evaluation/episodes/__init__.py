"""Few-shot classification measured over many episodes: embeddings in, numbers out."""
