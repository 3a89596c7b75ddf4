"""Encoders as thin Linen modules over pure functions: normalised filterbank in, features out.

Letters used in this room: B batch, F fbank frames, M mel bins, P patch side, T tokens, E patch width, D model width, H attention
heads, K width of one head (in the positional convolution: kernel length), L layers, C classes. Masks are True where there is
sound.
"""
