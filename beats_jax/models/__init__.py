"""Encoders as thin Linen modules over pure functions: normalised filterbank in, features out.

Letters used in this room: B batch, F fbank frames, M mel bins, P patch side, T tokens, E patch width, D model width, H attention
heads, K width of one head (in the positional convolution: kernel length), L layers, C classes. Masks are True where there is
sound. The import hook in tests/conftest.py checks the shapes and types that signatures state; elsewhere they cost nothing.
"""

from jaxtyping import Array, Bool, Float

Fbank = Float[Array, "batch frames bins"]
Tokens = Float[Array, "batch tokens width"]
TokenMask = Bool[Array, "batch tokens"]  # True = real
Bias = Float[Array, "*clips heads tokens tokens"]  # (query, key) of attention scores; the same for all clips, or batch first
BiasByDistance = Float[Array, "heads distances"]  # of key and query, -(T-1) to T-1: what the rows of a `Bias` repeat
