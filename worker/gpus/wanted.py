"""What people write when they want GPUs: `2xA100`, `V100-32GB`, `nvidia.com/gpu: 2`, 两张A100."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from worker.gpus.kinds import AMD, ASCEND, INTEL, NAMES, NVIDIA, Kind, as_sold, kind_of, memory_in, plain
from worker.gpus.refusals import Reason, Refusal

MOST = 65_536
LONGEST = 200
"""characters"""

RESOURCES: Mapping[str, str] = {
    "nvidia.com/gpu": NVIDIA,
    "nvidia.com/gpu.shared": NVIDIA,
    "amd.com/gpu": AMD,
    "gpu.intel.com/i915": INTEL,
    "gpu.intel.com/xe": INTEL,
    "intel.com/gpu": INTEL,
    "huawei.com/npu": ASCEND,
    "huawei.com/ascend": ASCEND,
}
"""names of Kubernetes' device plugins, in lower case"""

CHINESE = {
    digit: number
    for number, digits in enumerate(["零", "一", "二两", "三", "四", "五", "六", "七", "八", "九", "十"])
    for digit in digits
}
_AMOUNT = r"(?P<count>\d+|[一二两三四五六七八九十])"
_CALLED = r"(?P<kind>.+?)"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?P<kind>)(?P<count>\d+)",
        rf"(?P<kind>){_AMOUNT}\s*(?:x\s*)?(?:gpus?|npus?|cards?|[张块个卡]\s*(?:gpu|npu|显卡|卡)?)",
        rf"(?P<kind>)(?:gpus?|npus?)\s*[:=x]\s*{_AMOUNT}",
        rf"(?:gpus?|npus?)\s*:\s*{_CALLED}\s*:\s*{_AMOUNT}",
        rf"{_AMOUNT}\s*(?:x|[张块个卡](?:的)?)\s*{_CALLED}",
        rf"{_CALLED}\s*[x:=,，]\s*{_AMOUNT}\s*[张块个卡]?",
        rf"{_CALLED}\s+{_AMOUNT}\s*[张块个卡]",
        rf"{_AMOUNT}\s+{_CALLED}",
    )
)
_WORD = re.compile(r"\s*(?:gpus?|npus?|显卡|[张块个卡])\s*$", re.IGNORECASE)
_RESOURCE = re.compile(r"([\w.-]+/[\w.-]+?)(?:\s*[:=\s]\s*(\S+))?")
_SIZED = re.compile(r"(.*\D\d*)[\s_-](\d{1,3})")
"""`V100-32`: the size without its unit"""


@dataclass(frozen=True, slots=True)
class Wanted:
    count: int = 1
    kind: str = ""
    """empty: any"""
    maker: str = ""
    memory_gb: float | None = None
    """of each card, at least"""
    resource: str = ""
    """as it was written, where it was a name of Kubernetes"""

    @property
    def exactly(self) -> str:
        """The resource that alone will do: NVIDIA's tell whole cards from slices, others may be aliases."""
        return self.resource.casefold() if self.maker == NVIDIA else ""


def parse(text: str, resources: Mapping[str, str] = RESOURCES) -> Wanted:
    said = plain(text).strip("\"' ,;")
    if not said or len(text) > LONGEST:
        raise Refusal(Reason.UNREADABLE, said=text[:LONGEST])
    said = re.sub(r"[×✕✖⨯*]", "x", said.replace('"', "").replace("'", "")).removeprefix("gres/")
    if found := _RESOURCE.fullmatch(said):
        return _resource(found[1], found[2] or "1", resources)
    if called := _kind(said):
        return _wanted(1, *called)
    without, memory = memory_in(said)
    without = without.rstrip(" ,-").lstrip(" ,")
    for form in _FORMS:
        if (found := form.fullmatch(without)) and (called := _kind(found["kind"].strip(), memory)):
            return _wanted(_count(found["count"]), *called)
    if memory is not None and not without:
        return Wanted(memory_gb=memory)
    raise Refusal(Reason.UNREADABLE, said=text) if _digits_only(without) else _unknown(text)


def gpu_type(text: str) -> Wanted:
    """A type without a count; empty, `any` and `gpu` are any."""
    if plain(text).casefold() in ("", "any", "gpu", "gpus", "任意"):
        return Wanted()
    if found := _RESOURCE.fullmatch(plain(text)):
        return _resource(found[1], "1", RESOURCES)
    called = _kind(plain(text))
    if not called:
        raise _unknown(text)
    return _wanted(1, *called)


def _wanted(count: int, kind: Kind | None, memory: float | None) -> Wanted:
    if kind is None:
        return Wanted(count, memory_gb=memory)
    return Wanted(count, kind.name, kind.maker, memory and as_sold(kind, memory))


def _kind(said: str, memory: float | None = None) -> tuple[Kind | None, float | None] | None:
    """None: these words name nothing."""
    if not said:
        return None, memory
    if memory is None:
        said, memory = memory_in(said)
    said = _WORD.sub("", said).strip(" ,-:")
    if kind := kind_of(said):
        return kind, memory
    sized = _SIZED.fullmatch(said)
    if sized and memory is None and (kind := kind_of(sized[1])) and float(sized[2]) in kind.sizes:
        return kind, float(sized[2])
    return None


def _resource(name: str, amount: str, resources: Mapping[str, str]) -> Wanted:
    known = name.casefold()
    if known in resources:
        return Wanted(_count(amount), maker=resources[known], resource=name)
    if known.startswith("huawei.com/ascend") and (kind := kind_of(known.removeprefix("huawei.com/"))):
        return Wanted(_count(amount), kind.name, kind.maker, resource=name)
    if found := re.fullmatch(r"nvidia\.com/mig-\d+g\.(\d+)gb", known):
        return Wanted(_count(amount), maker=NVIDIA, memory_gb=float(found[1]), resource=name)
    raise Refusal(Reason.UNKNOWN_TYPE, said=name, known=", ".join(resources))


def _count(said: str) -> int:
    count = CHINESE.get(said, -1)
    if re.fullmatch(r"[0-9]{1,6}", said):
        count = int(said)
    if not 1 <= count <= MOST:
        raise Refusal(Reason.NOT_WHOLE, said=said, most=MOST)
    return count


def _digits_only(text: str) -> bool:
    return not re.search(r"[^\W\d_]", text)


def _unknown(said: str) -> Refusal:
    return Refusal(Reason.UNKNOWN_TYPE, said=said, known=", ".join(NAMES))
