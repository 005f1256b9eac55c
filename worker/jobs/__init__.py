"""Long work: one item at a time, with checkpoints that the next worker goes on from."""
