"""Ghost probing: what comes suddenly into the car's path from behind something that hid it."""
