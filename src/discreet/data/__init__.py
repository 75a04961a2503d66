"""Collection: what is held, for which purposes, and the one shape in which it reaches training."""
