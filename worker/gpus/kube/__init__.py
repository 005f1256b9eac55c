"""A Kubernetes cluster: its nodes and pods are the inventory, its API server judges who holds what."""
