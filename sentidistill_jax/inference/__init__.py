"""A model at work: scoring and generation."""
