"""Tables of events that other programs write and read, by name in `registry.TABLES`."""
