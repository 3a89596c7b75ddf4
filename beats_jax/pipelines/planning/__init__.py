"""What a training run would need on a machine that is not here."""
