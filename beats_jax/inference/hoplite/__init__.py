"""Databases of Perch-Hoplite 1.0.2: read, brought up to a table of embeddings, repaired."""
