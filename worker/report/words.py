"""The report's own words, in both languages. What tasks and inputs are called stays as it is."""

from __future__ import annotations

from html import escape

LANGUAGES = ("en", "zh")
WORDS = {
    "items": ("items", "项目"),
    "ok": ("answered", "成功"),
    "failed": ("failed", "失败"),
    "superseded": ("superseded", "已被替换"),
    "wall": ("from start to end", "总用时"),
    "rate": ("items a second", "项/秒"),
    "waited": ("device waited", "设备等待"),
    "failures": ("Failures", "失败"),
    "refused": ("Refused lines", "被拒绝的行"),
    "summary": ("Summary", "汇总"),
    "rows": ("Results", "结果"),
    "pareto": ("By how often", "帕累托图"),
    "score": ("Against the labels", "与标注对照"),
    "said_yes": ("said yes", "判为是"),
    "said_no": ("said no", "判为否"),
    "true": ("labelled yes", "标注为是"),
    "false": ("labelled no", "标注为否"),
    "interval": ("95 %", "95% 区间"),
    "always_yes": ("always yes", "全判是"),
    "always_no": ("always no", "全判否"),
    "precision": ("precision", "精确率"),
    "recall": ("recall", "召回率"),
    "f1": ("F1", "F1"),
    "balanced_accuracy": ("balanced accuracy", "平衡准确率"),
    "accuracy": ("accuracy", "准确率"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "not_there": ("not in the results", "结果中没有"),
    "time_hits": ("found within 2 s of the label", "与标注时间相差 2 秒内"),
    "let_through": ("clips that the screen let through", "预筛放行的片段"),
    "ghosts_let_through": ("ghosts that the screen let through", "预筛放行的鬼探头"),
    "wrong": ("Wrong", "判错"),
    "label": ("Label", "标注"),
    "label_time": ("At", "时间"),
    "said": ("Said", "判定"),
    "incidents": ("Incidents", "事件"),
    "left_out": ("Not counted", "未计入"),
    "chapters": ("In detail", "详情"),
    "matrix": ("A row for what it is, a column for what it was taken for", "行为真实类别，列为判定类别"),
    "moments": ("What was found, and when", "发现了什么，在何时"),
    "time": ("Where the time went", "时间花在哪里"),
    "provenance": ("Provenance", "来源"),
    "file": ("File", "文件"),
    "line": ("Line", "行"),
    "why": ("Why", "原因"),
    "what": ("What", "内容"),
    "value": ("Value", "值"),
    "kind": ("Kind", "类型"),
    "count": ("Count", "数量"),
    "input": ("Input", "输入"),
    "message": ("Message", "信息"),
    "files": ("Files", "文件"),
    "worker": ("Worker", "工作进程"),
    "device": ("Device", "设备"),
    "answers": ("Items", "项目"),
    "seconds": ("Seconds", "秒"),
    "claims": ("shards claimed", "分片领取次数"),
    "median": ("median seconds an item", "每项中位秒数"),
    "p90": ("9 of 10 items within, s", "九成项目不超过（秒）"),
    "max": ("slowest item, s", "最慢项目（秒）"),
    "slowest": ("Slowest items", "最慢的项目"),
    "beside": (
        "The pictures are too many for one page and lie in files/ beside it: pass the whole folder on.",
        "图片太多，未放进本页，存放在旁边的 files/ 里：转交时请带上整个文件夹。",
    ),
    "cut": ("shown of", "已显示，共"),
}


def word(name: str) -> str:
    """Both languages; the page shows one of them."""
    return both(*WORDS[name])


def both(en: str, zh: str) -> str:
    return f'<span class="en">{escape(en)}</span><span class="zh" lang="zh">{escape(zh)}</span>'
