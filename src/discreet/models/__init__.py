"""Recommenders. Each says what one person adds to a sum, and how a noisy sum makes it better."""
