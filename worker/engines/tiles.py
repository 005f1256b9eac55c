"""Into how many squares a picture is cut, for models that look at it in tiles."""

from __future__ import annotations


def grid(width: int, height: int, side: int, most: int) -> tuple[int, int]:
    """Columns and rows, at most `most` tiles, in the shape nearest to the picture's. Where two are as near,
    the finer one if the picture has more than half of its pixels."""
    shape = width / height
    grids = [
        (tiles // rows, rows)
        for tiles in range(1, most + 1)
        for rows in range(1, tiles + 1)
        if tiles % rows == 0
    ]
    nearest = min(abs(shape - columns / rows) for columns, rows in grids)
    coarsest, *finer = [one for one in grids if abs(shape - one[0] / one[1]) == nearest]
    filled = [one for one in finer if width * height > side * side * one[0] * one[1] / 2]
    return filled[-1] if filled else coarsest
