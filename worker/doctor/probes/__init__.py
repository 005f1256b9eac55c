"""Each asks the machine one thing, within a limit of time, and says what it saw. None of them raises."""
