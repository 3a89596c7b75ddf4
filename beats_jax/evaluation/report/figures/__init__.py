"""Pictures of reports: each function returns a data URI, and the same arguments give the same bytes."""
