"""Workers as jobs of Azure ML, each on a machine of a low-priority cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from worker.errors import UsageError, WorkerError
from worker.launch import cost, inputs, queue
from worker.launch.azureml import containers, files
from worker.launch.azureml.states import Job, judge
from worker.launch.launch import Launch, Receipt
from worker.launch.launcher import Launcher, Look, Standing

if TYPE_CHECKING:
    from worker.launch.azureml.workspace import Workspace
    from worker.launch.launcher import Keep, Say


ROLE = (
    'az role assignment create --role "Storage Blob Data Contributor" --scope "$(az storage account show '
    '--name {} --query id --output tsv)" --assignee-principal-type ServicePrincipal --assignee-object-id {}'
)


NOT_COUNTED = "not counted: each machine while it starts, and 5 minutes after its last job"


class AzureMl(Launcher):
    name: ClassVar[str] = "azureml"

    def __init__(self) -> None:
        self._known: Workspace | None = None

    def check(self, launch: Launch) -> None:
        files.check(launch)

    def render(self, launch: Launch) -> Mapping[str, str]:
        return files.render(launch)

    def cost(self, launch: Launch) -> cost.Cost:
        """At the tier's own price, where our table has Azure's."""
        from worker.planning.money import Price
        from worker.planning.span import exactly

        priced = cost.of(replace(launch, time_limit_s=files.time_limit(launch)))
        priced = replace(priced, rests_on=[*priced.rests_on, NOT_COUNTED])
        if launch.price is None and priced.price and priced.price.source.startswith("Azure"):
            usd = priced.price.usd
            tier = usd.high if launch.setting("dedicated") else usd.low
            return replace(priced, price=Price(exactly(tier), priced.price.source))
        return priced

    def submit(self, launch: Launch, known: Receipt | None, say: Say, keep: Keep) -> Receipt:
        url = files.queue_of(launch)
        if known and known.queue != url:
            raise UsageError(
                f"{launch.name} was launched on {known.queue}: --name another one, or delete that first"
            )
        brought = inputs.place(launch, files.inputs_of(url))
        workspace = self._workspace()
        account = files.account_of(launch) or workspace.account
        launch = replace(launch, settings={**launch.settings, "account": account})
        containers.let_in(account)
        if not brought.named:  # then the queue has to hold its items already
            queue.enqueue(launch, url, [], None, say)
        receipt = Receipt(self.name, launch, url)
        if known:
            receipt = receipt.also(jobs=known.jobs, made=known.made)
        receipt = self._make(receipt, bool(brought.named), say, keep)
        if brought.named:
            inputs.upload(brought, say)
            queue.enqueue(launch, url, brought.named, brought.root, say)
        return self._start(receipt, say, keep)

    def _make(self, receipt: Receipt, needs_container: bool, say: Say, keep: Keep) -> Receipt:
        """What is missing."""
        launch, workspace = receipt.launch, self._workspace()

        def made(what: str, by_us: bool) -> bool:
            """Whether that is new: a submission that was cut off may not have written it down."""
            nonlocal receipt
            is_new = by_us and what not in receipt.made
            if is_new:
                say(f"{what}: made")
                receipt = receipt.also(made=[what])
            keep(receipt)
            return is_new

        by_us, other = workspace.make_compute(files.compute(launch))
        is_new = made(f"cluster {files.compute_of(launch)}", by_us)
        if other:
            say(other)
        if is_new and launch.setting("identity", "managed") == "managed":
            say(
                "its identity has to be let in to the blobs, once (with --identity user the workers are you):"
            )
            say(ROLE.format(_account(receipt), workspace.principal_of(files.compute_of(launch))))
        environment = ":".join(files.environment_of(launch))
        made(f"environment {environment}", workspace.make_environment(files.environment(launch)))
        if needs_container:
            container = files.container_of(receipt.queue)
            made(f"container {container}", containers.make(_account(receipt), container, launch.name))
        return receipt

    def standing(self, receipt: Receipt) -> Standing:
        jobs = self._jobs(receipt)
        ended = bool(jobs) and not any(job.is_active for job in jobs)
        is_over = self.look(receipt).is_over if ended else None
        return judge(jobs, is_over, receipt.cancelled)

    def again(self, receipt: Receipt, say: Say) -> Receipt:
        return self._start(receipt, say, lambda _: None)

    def look(self, receipt: Receipt) -> Look:
        containers.let_in(_account(receipt))
        return super().look(receipt)

    def fetch(self, receipt: Receipt, out: Path, say: Say) -> bool:
        containers.let_in(_account(receipt))
        return super().fetch(receipt, out, say)

    def cancel(self, receipt: Receipt, say: Say) -> None:
        """All of them, whatever becomes of one: each costs money."""
        active = [job for job in self._jobs(receipt) if job.is_active]
        troubles = []
        for job in active:
            try:
                self._workspace().cancel(job.name)
            except WorkerError as error:
                troubles.append(error)
            else:
                say(f"{job.name}: cancelled")
        if troubles:
            raise troubles[0]
        if not active:
            say(f"{receipt.name}: nobody works on it")

    def delete(self, receipt: Receipt, say: Say) -> None:
        self.cancel(receipt, say)
        left = []
        for what in receipt.made:
            if why := self._remove(receipt, *what.split(" ", 1)):
                left.append(f"{what} stays, for {why}")
            else:
                say(f"{what}: removed")
        if left:
            raise UsageError(f"{'; '.join(left)}: delete it once more when that is no longer so")

    def _remove(self, receipt: Receipt, kind: str, name: str) -> str:
        if kind == "cluster":
            return self._workspace().delete_compute(name, files.mark(receipt.launch))
        if kind == "environment":
            self._workspace().archive_environment(*name.split(":", 1))
            return ""
        below = receipt.queue.removeprefix(f"az://{name}/")
        ours = (f"{below}/", f"{files.inputs_of(below)}/")
        return containers.remove(_account(receipt), name, receipt.name, ours)

    def _start(self, receipt: Receipt, say: Say, keep: Keep) -> Receipt:
        """As many jobs as are lacking. Their names count up, so that whoever submits the same finds them."""
        launch, workspace = receipt.launch, self._workspace()
        active: list[str] = []
        for number in count(1):
            name = files.job_name(launch, number)
            there = workspace.job(name)
            if there is None:
                if len(active) >= launch.workers:
                    break
                workspace.start(files.job(launch, number))
                active.append(name)
                receipt = replace(
                    receipt.also(jobs=[name]),
                    notes={"account": _account(receipt), "current": list(active)},
                )
                keep(receipt)
            elif there.is_active and there.launch == launch.name:
                if there.queue != receipt.queue:
                    raise UsageError(f"{name} works on {there.queue} already: --name another launch")
                say(f"{name} is {there.status.lower()} already")
                active.append(name)
        return replace(receipt.also(jobs=active), notes={"account": _account(receipt), "current": active})

    def _jobs(self, receipt: Receipt) -> Sequence[Job]:
        current = receipt.notes.get("current") or list(receipt.jobs)
        return [job for name in current if (job := self._workspace().job(str(name)))]

    def _workspace(self) -> Workspace:
        if self._known is None:
            from worker.launch.azureml.workspace import connect

            self._known = connect(os.environ)
        return self._known


def _account(receipt: Receipt) -> str:
    return str(receipt.launch.setting("account"))
