"""How it is learnt, once for all objectives: mesh, optimizer, checkpoints, writers and the one loop."""
