"""Printed circuit boards: what is wrong with them, told by comparing each with its template."""
