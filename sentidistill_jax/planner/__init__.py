"""What a run needs on hardware that is not here: compiled for it, read, and put into numbers."""
