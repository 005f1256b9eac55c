"""hypothesis without its folder of examples, and without a deadline that a busy machine misses."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("here", deadline=None, database=None)
settings.load_profile("here")
