"""What all trainings share: settings, the way through the steps, checkpoints, metrics."""
