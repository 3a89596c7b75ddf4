"""How it is learnt, once for all objectives: optimizer, checkpoints, writers and the one loop."""
