"""One module for each version, named by its number; none is edited once a ledger was made with it."""
