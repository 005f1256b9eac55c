"""The system that packages were built for, and what this one reads films with."""

from __future__ import annotations

import platform

from worker.doctor.facts import System


def look() -> System:
    library, version = platform.libc_ver()
    glibc = version if library == "glibc" else None
    try:
        import av

        return System(glibc, platform.python_version(), sorted(av.codecs_available))
    except Exception as error:
        return System(glibc, platform.python_version(), None, f"{type(error).__name__}: {error}")
