"""An Indexed Job in a Kubernetes cluster."""
