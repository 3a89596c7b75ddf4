"""Training: an experiment from its settings to its exported model."""
