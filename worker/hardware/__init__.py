"""What this machine has to compute on, found without a library that would take hold of it."""
