"""One module per verb; each holds `VERB` and explains itself in its docstring."""
