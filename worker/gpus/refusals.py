"""Why a request for GPUs is refused: a code for programs, a sentence in English and in Chinese for people."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from worker.errors import WorkerError


class Said(NamedTuple):
    english: str
    chinese: str


class Reason(Enum):
    """(English, Chinese)"""

    UNREADABLE = (
        "'{said}' is no request for GPUs: write 2, 2xA100, V100-32GB or nvidia.com/gpu: 2",
        "看不懂“{said}”：请写 2、2xA100、V100-32GB 或 nvidia.com/gpu: 2",
    )
    UNKNOWN_TYPE = (
        "no GPU is called '{said}'; there are {known}",
        "没有名为“{said}”的 GPU；可用的有：{known}",
    )
    NOT_WHOLE = (
        "'{said}' GPUs: a whole number from 1 to {most} is needed",
        "GPU 数量“{said}”无效：应为 1 到 {most} 的整数",
    )
    WRONG_VALUE = ("{name} is {said}: {rule}", "{name} 的值为 {said}：{rule}")
    WRONG_FILE = ("{file}: {said}", "{file}：{said}")
    IMPOSSIBLE = (
        "{wanted}: never here: {why}",
        "{wanted}：此处无法满足：{why}",
    )
    BUSY = (
        "{wanted}: not free now: {why}",
        "{wanted}：目前没有空闲：{why}",
    )
    NOT_READY = ("not ready: {why}", "尚未就绪：{why}")
    NO_ALLOCATION = (
        "no allocation is called '{said}'; its lease may have ended",
        "没有名为“{said}”的分配；租约可能已到期",
    )
    NO_NODE = ("no node is called '{said}'; there are {known}", "没有名为“{said}”的节点；现有：{known}")
    KEY_REUSED = (
        "the idempotency key '{said}' was used for another request: take a new one",
        "幂等键“{said}”已用于另一个请求：请换一个新的",
    )
    KEY_ENDED = (
        "what the idempotency key '{said}' got was given back meanwhile: take a new key",
        "幂等键“{said}”得到的分配已经归还：请换一个新的",
    )
    UNAUTHORISED = (
        "a token is needed: send the header Authorization: Bearer TOKEN",
        "需要令牌：请在请求头中发送 Authorization: Bearer TOKEN",
    )
    WRONG_HOST = (
        "without a token only {known} are answered, not '{said}': start the manager with WORKER_TOKEN",
        "没有设置令牌时只回答 {known}，不回答“{said}”：请用 WORKER_TOKEN 启动管理器",
    )
    NO_PATH = (
        "there is no {said}: /docs lists what there is",
        "没有 {said}：/docs 列出了全部接口",
    )
    TOO_LARGE = (
        "the request is too large: at most {said} bytes",
        "请求过大：最多 {said} 字节",
    )
    BROKEN = (
        "a fault of the manager's ({said}): its log says more",
        "管理器内部错误（{said}）：详见其日志",
    )

    @property
    def code(self) -> str:
        return self.name.lower()


class Refusal(WorkerError):
    """The sentence in English; `text("zh")` is the Chinese one."""

    def __init__(self, reason: Reason, **facts: object) -> None:
        self.reason = reason
        self.facts = facts
        super().__init__(self.text("en"))

    def text(self, language: str) -> str:
        which = language == "zh"
        facts = {name: fact[which] if isinstance(fact, Said) else fact for name, fact in self.facts.items()}
        return "".join(map(_printable, self.reason.value[which].format(**facts)))


def language(accepted: str) -> str:
    """`accepted`: the header Accept-Language."""
    return "zh" if accepted.casefold().startswith("zh") else "en"


def _printable(letter: str) -> str:
    """What others said is told in one line that every terminal and encoding can show."""
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else letter.encode("unicode_escape").decode()
