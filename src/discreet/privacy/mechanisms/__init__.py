"""Mechanisms: a value in, a noisy value out. Each module has its proof beside it."""
