"""The GPUs of a machine or a cluster: found, handed out, and taken back. docs/gpu-manager.md says how."""
