"""merge: an adapter becomes part of the full-precision model that it was trained beside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from worker.errors import ItemError
from worker.items import Answer, Failure, Item, Result
from worker.tasks.task import JobTask, Params, Stopped, models_of_the_item

if TYPE_CHECKING:
    from worker.jobs.stopping import StopFlag
    from worker.jobs.workspace import Workspace
    from worker.merging.output import Output

_SHOWN = ("config.json", "model.safetensors.index.json")


class MergeParams(Params):
    into: str
    """the folder that the merged model is written into, seen from the adapter's; each file once"""
    base: str = ""
    """the full-precision model: a folder, seen from the adapter's, or a name of the hub. Empty: the one that
    the adapter names"""

    @field_validator("into")
    @classmethod
    def _is_a_folder(cls, into: str) -> str:
        if "://" in into or not into.strip():
            raise PydanticCustomError("folder", "a folder of this machine: blobs are not written into")
        return into


class Merge(JobTask[MergeParams]):
    name = "merge"
    about = "merge a LoRA that PEFT saved into its full-precision base, file by file in little memory"
    params_type = MergeParams
    suffixes = frozenset({".safetensors"})
    seconds_per_item = 600.0
    keep = 0

    @models_of_the_item()
    def run(self, item: Item, workspace: Workspace, stop: StopFlag) -> Answer | Failure:
        """An item is adapter_config.json or adapter_model.safetensors; the other one lies beside it."""
        from worker.merging.merge import Merge

        if item.file is None:
            raise ItemError("missing", "there is no adapter")
        params = self.params_of(item)
        beside = item.file.resolve().parent
        merge = Merge.of(beside, params.base)
        workspace.resume()

        def alive() -> None:
            workspace.alive()
            if stop:
                raise Stopped

        def saved(output: Output, number: int) -> None:
            workspace.progress(number, len(merge.files))
            with workspace.checkpoint(number) as folder:  # the work itself lies in `into`
                (folder / "manifest.json").write_bytes(output.note().read_bytes())

        output = merge.write(beside / Path(params.into).expanduser(), alive, saved)
        manifest = output.note()
        for file in (manifest, *(output.folder / name for name in _SHOWN)):
            if file.is_file():
                workspace.publish(file.name, file)
        return Answer(
            {
                "base": merge.made_of["base"],
                "changed": len(merge.changes),
                "files": len(merge.files),
                "bytes": sum(output.files[one.name].size for one in merge.files),
            }
        )

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        keys = result.outcome.keys
        return {
            "Base": keys["base"]["name"],
            "Tensors changed": str(keys["changed"]),
            "Weights": f"{keys['bytes'] / 1e9:.2f} GB in {keys['files']} files",
        }
