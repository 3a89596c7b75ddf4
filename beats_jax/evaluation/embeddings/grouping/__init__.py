"""Vectors → scale → reduce → cluster → labels and memberships (`group.group`), and figures that say how good they are."""
