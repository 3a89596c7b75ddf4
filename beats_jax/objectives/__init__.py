"""What is learnt. Every objective has one face: `init(key, batch) -> state`, `update(state, batch) -> (state, metrics)`.

A state is any pytree with `step`, `params` and `weights` (what is evaluated and exported); the loop looks at nothing else.
"""
