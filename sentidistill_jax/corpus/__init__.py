"""From user texts to the prompts that the teacher answers; plain Python, no JAX."""
