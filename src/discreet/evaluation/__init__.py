"""Findings about a model: how good it is, and how sure that is."""
