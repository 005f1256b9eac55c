"""The kinds of accelerators that people ask for by name, and the sizes that each is sold in."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

NVIDIA, AMD, INTEL, ASCEND = "nvidia", "amd", "intel", "npu"

GIB = 1.073741824
"""GB in one GiB"""


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    maker: str
    sizes: tuple[float, ...]
    """GB, as the data sheets count"""
    said: str = ""
    """a regular expression for other ways to write it, without blanks and makers"""


KINDS = (
    Kind("T4", NVIDIA, (16,)),
    Kind("P100", NVIDIA, (12, 16)),
    Kind("V100", NVIDIA, (16, 32), "v100s"),
    Kind("A10", NVIDIA, (24,)),
    Kind("A10G", NVIDIA, (24,)),
    Kind("A30", NVIDIA, (24,)),
    Kind("A40", NVIDIA, (48,)),
    Kind("A6000", NVIDIA, (48,), "rtxa6000"),
    Kind("A100", NVIDIA, (40, 80)),
    Kind("A800", NVIDIA, (40, 80)),
    Kind("L4", NVIDIA, (24,)),
    Kind("L20", NVIDIA, (48,)),
    Kind("L40", NVIDIA, (48,)),
    Kind("L40S", NVIDIA, (48,)),
    Kind("H20", NVIDIA, (96, 141)),
    Kind("H100", NVIDIA, (80, 94)),
    Kind("H800", NVIDIA, (80,)),
    Kind("H200", NVIDIA, (141,)),
    Kind("B200", NVIDIA, (180,)),
    Kind("RTX2080", NVIDIA, (8,), "2080"),
    Kind("RTX2080Ti", NVIDIA, (11, 22), "2080ti"),
    Kind("RTX3090", NVIDIA, (24,), "3090"),
    Kind("RTX3090Ti", NVIDIA, (24,), "3090ti"),
    Kind("RTX4090", NVIDIA, (24, 48), "4090"),
    Kind("RTX4090D", NVIDIA, (24, 48), "4090d"),
    Kind("RTX5090", NVIDIA, (32,), "5090"),
    Kind("MI100", AMD, (32,)),
    Kind("MI210", AMD, (64,)),
    Kind("MI250", AMD, (128,), "mi250x"),
    Kind("MI300X", AMD, (192,)),
    Kind("Max1100", INTEL, (48,), "(datacentergpu)?max1100|pvc1100"),
    Kind("Max1550", INTEL, (128,), "(datacentergpu)?max1550|pvc1550"),
    Kind("Ascend310", ASCEND, (8, 24), "ascend310p|310p?"),
    Kind("Ascend910", ASCEND, (32,), "ascend910a|910a?"),
    Kind("Ascend910B", ASCEND, (32, 64), "(ascend)?910b[1-4]?"),
    Kind("Ascend910C", ASCEND, (64, 128), "(ascend)?910c"),
)

NAMES = tuple(kind.name for kind in KINDS)

MAKERS = r"nvidia|geforce|tesla|quadro|amd|instinct|radeon|intel|huawei|华为|英伟达|昇腾(?=ascend)"
FORMS = r"sxm\d?|pcie|pci-e|oam|nvl|hbm\d?e?|smx\d"
_NOISE = re.compile(rf"({MAKERS}|(?<![a-z])({FORMS})(?![a-z])|[\s_\-()])", re.IGNORECASE)
_MEMORY = re.compile(
    r"(?<![\d.a-z])(\d{1,6}(?:\.\d{1,3})?)\s*(tib|tb|gib|gb|gi|g|mib|mb|mi|m)(?![a-z\d])", re.IGNORECASE
)
_UNITS = {"t": 1000.0, "g": 1.0, "m": 0.001}


def plain(text: str) -> str:
    """One way to write each letter: full width becomes half."""
    return unicodedata.normalize("NFKC", text).strip()


def kind_of(name: str) -> Kind | None:
    """The kind that these words name, and nothing else beside it."""
    squeezed = squeeze(name)
    return next((kind for kind in KINDS if _is(kind, squeezed)), None)


def squeeze(name: str) -> str:
    """`NVIDIA GeForce RTX 4090` → `rtx4090`"""
    return _NOISE.sub("", plain(name).replace("昇腾", "ascend")).casefold()


def _is(kind: Kind, squeezed: str) -> bool:
    return squeezed == kind.name.casefold() or bool(kind.said and re.fullmatch(kind.said, squeezed))


def named(driver: str) -> str:
    """A kind's name for what a driver calls a card; of a kind unknown here its own name, short."""
    without, _ = memory_in(driver)
    kind = kind_of(without)
    return kind.name if kind else squeeze(without).upper()


def memory_in(text: str) -> tuple[str, float | None]:
    """The text without a size of memory, and the size in GB."""
    found = _MEMORY.search(text)
    if not found:
        return text, None
    unit = found[2].casefold()
    gigabytes = float(found[1]) * _UNITS[unit[0]]
    if "i" in unit:
        gigabytes *= {"t": 1.099511627776, "g": GIB, "m": 1.048576}[unit[0]]
    return text[: found.start()] + " " + text[found.end() :], round(gigabytes, 3)


def as_sold(kind: Kind, gigabytes: float) -> float:
    """People who write 80 GiB of an A100 mean the one that is sold with 80 GB."""
    return next((size for size in kind.sizes if gigabytes in (size, round(size * GIB, 3))), gigabytes)
