"""Attacks on a recommender, with and without privacy: each a function from a ``Service`` to its ``Figure``s."""
