"""What to review next, and the table of what was decided."""
