"""What training reads: caches, packing, batches."""
