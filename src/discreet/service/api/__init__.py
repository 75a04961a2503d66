"""The service of people's data and lists: see ``app``."""
