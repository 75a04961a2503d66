"""Who may, and what happened: an append-only journal, and the budgets that are read from it."""
