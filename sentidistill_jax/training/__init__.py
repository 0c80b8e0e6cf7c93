"""Losses, step and loop."""
