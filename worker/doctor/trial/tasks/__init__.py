"""A folder of tasks, for WORKER_TASKS."""
