"""Training: one loop over rounds. Where people's data is, and who adds it up, are arguments."""
