"""Other people's software: the only home of optional dependencies."""
