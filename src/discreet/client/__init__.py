"""The device: a history stays here, and takes part in sums that nobody can see it in.

Imports NumPy and ``cryptography``, and nothing else that does not come with Python. As a program:
``python -m discreet.client``.
"""
