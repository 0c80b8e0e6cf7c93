"""SentiBench: data, prompts, parsing, scores and tables of the twelve tasks; imports no JAX."""
