"""A SLURM cluster, or a server with GPUs and no scheduler: here, or by ssh."""
