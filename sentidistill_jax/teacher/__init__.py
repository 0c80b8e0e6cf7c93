"""The teacher at work: labels, answers and cached distributions."""
