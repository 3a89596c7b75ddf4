"""Discovery: regions of sound in recordings, their embeddings, clusters of them, and what a biologist gets of these."""
