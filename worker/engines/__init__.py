"""Engines: what looks at frames and answers. One file a family; a task knows them by name."""
