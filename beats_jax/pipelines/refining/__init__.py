"""Clusters of `discover`, refined by people: named, merged, split, dropped."""
