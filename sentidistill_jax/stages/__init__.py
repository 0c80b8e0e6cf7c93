"""Entry functions of the stages; only they and the command line see a config."""
