"""The state of a run: files in one place, and the rules by which workers share them."""
