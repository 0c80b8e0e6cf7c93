"""Many trials of one pipeline: what is tried, by whom it is chosen, and what came of it."""
