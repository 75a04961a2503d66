"""What a release costs: bounds, mechanisms, prices. Pure functions over integers, no I/O."""
