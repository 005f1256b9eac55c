"""What the facts mean: pure functions, one a check. docs/doctor.md has each of them."""
