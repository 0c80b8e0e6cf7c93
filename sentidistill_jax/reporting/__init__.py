"""Reports on stored scores: models compared in tables, a plot and one page for everything."""
