"""Few-shot networks: scores of queries from a few labelled examples, over embeddings or maps of any backbone.

Letters of this folder: W ways (classes of an episode), K shots (examples of each), S = W K support items, Q queries, D width.
Every function reads one episode, support [W, K, D] and queries [Q, D], and gives scores float32 [Q, W], the largest for the
class that is named; many episodes at once are `jax.vmap` of it. Prototypical, SimpleShot and LaplacianShot have no parameters;
`FullContextEmbeddings` (matching) and `RelationModule` are Linen modules.
"""

from jaxtyping import Array, Float

Support = Float[Array, "ways shots width"]
Queries = Float[Array, "queries width"]
Scores = Float[Array, "queries ways"]
