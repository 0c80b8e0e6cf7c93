"""Data sets as tensorflow-datasets builders; importing a builder's package registers it."""
