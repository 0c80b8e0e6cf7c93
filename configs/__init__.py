"""Configs: base.py explains every field; the others start from it; each takes `:smoke`."""
