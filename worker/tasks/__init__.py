"""One file a kind of work."""
