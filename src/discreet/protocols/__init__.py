"""Who sees what: state machines over bytes and integers, without input or output, without floats.

Needs NumPy and ``cryptography`` alone, so that a device can carry it; ``transfers`` and ``intersection`` need PyNaCl,
too.
"""
