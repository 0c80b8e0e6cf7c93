"""Benchmarks: data, prompts, parsing, scores and tables of their tasks; imports no JAX."""
