"""A model over recordings, once for every job: grid, stream, program, run, reduce, store; and the loaded `Model`."""
