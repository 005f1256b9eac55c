"""How good answers are: against labels, and against other answers."""
