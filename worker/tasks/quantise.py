"""quantise: a merged model becomes four bits a number, and is held against what it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from worker.errors import ItemError
from worker.items import Answer, Failure, Item, Result
from worker.tasks.task import JobTask, Params, Stopped, models_of_the_item

if TYPE_CHECKING:
    from worker.jobs.stopping import StopFlag
    from worker.jobs.workspace import Workspace

_ITEMS = ("merged.json", "config.json")
"""the first is another one whenever other weights were merged; the second is of every model"""
_PUBLISHED = ("quantised.json", "config.json")
_PLACES = ("into", "calibration", "pictures", "validation")


class QuantiseParams(Params):
    into: str
    """the folder that the small model is written into; it and all others are seen from the merged model's"""
    calibration: str
    """chat samples, a line each: the train.jsonl of pcb-convert"""
    pictures: str
    """the folder that the samples' pictures lie below: that of DeepPCB's list"""
    validation: str = ""
    """chat samples to compare with: a val.jsonl. Empty: some of those for calibration, which are left out"""
    samples: int = Field(default=256, ge=1)
    """to calibrate with"""
    held_out: int = Field(default=16, ge=1)
    """samples to compare with"""
    group: int = Field(default=128, ge=16)
    """numbers of a row that share a scale"""
    cosine: float = Field(default=0.97, ge=-1, le=1)
    """between the logits of both models: what falls below is rejected"""
    gate_boards: int = Field(default=0, ge=0)
    """of `validation`, that both models are asked about: DeepPCB's F is compared"""
    may_lose: float = Field(default=0.02, ge=0, le=1)
    """of that F: what falls deeper is rejected"""
    tool: Literal["llm-compressor", "autoawq"] = "llm-compressor"
    """that searches and rounds"""


class Quantise(JobTask[QuantiseParams]):
    name = "quantise"
    about = (
        "make a merged model four bits by AWQ, calibrated on boards, and reject it if it says something else"
    )
    params_type = QuantiseParams
    suffixes = frozenset({".json"})
    seconds_per_item = 14400.0
    keep = 0
    of_billions = True
    _device = "cpu"

    def open(self, device: str) -> None:
        self._device = device

    @models_of_the_item()
    def run(self, item: Item, workspace: Workspace, stop: StopFlag) -> Answer | Failure:
        """An item is merged.json, or the config.json of any model; the folder is what counts."""
        from worker.quantising.work import Quantisation

        if item.file is None or item.file.name not in _ITEMS:
            raise ItemError("no-model", f"name the {' or '.join(_ITEMS)} of the merged model")
        params = self.params_of(item)
        tool = _tool(params.tool)
        tool.require()
        workspace.resume()

        def alive() -> None:
            workspace.alive()
            if stop:
                raise Stopped

        def progress(layer: int, layers: int) -> None:
            workspace.progress(layer, layers)
            if stop:
                raise Stopped

        def saved() -> None:
            with workspace.checkpoint(1) as folder:  # the work itself lies beside `into`
                (folder / "quantised").touch()

        merged = item.file.resolve().parent
        at = {name: merged / Path(getattr(params, name)).expanduser() for name in _PLACES}
        work = Quantisation(
            merged,
            at["into"].resolve(),
            at["calibration"],
            at["pictures"],
            at["validation"] if params.validation else None,
            params.samples,
            params.held_out,
            params.group,
            params.cosine,
            self._device,
            params.tool,
            params.gate_boards,
            params.may_lose,
        )
        told = work.run(tool.quantise, progress, alive, saved)
        for name in _PUBLISHED:
            workspace.publish(name, work.into / name)
        made_of = {name: told[name] for name in ("merged", "tool", "group")}
        return Answer({**made_of, **told["verdict"]})

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        keys = result.outcome.keys
        return {
            "Cosine of logits": f"{keys['cosine']:.4f}, at worst {keys['worst_sample']:.4f}",
            "Same token": f"{keys['same_token']:.1%}",
            "Samples": str(keys["samples"]),
            **({"F, and merged": f"{keys['f1']:.1%}, {keys['f1_merged']:.1%}"} if "f1" in keys else {}),
        }


def _tool(name: str) -> Any:
    from worker.quantising import autoawq, compressor

    return autoawq if name == "autoawq" else compressor
