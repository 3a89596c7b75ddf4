"""State: what objectives keep between steps."""
