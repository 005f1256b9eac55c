"""`worker launch kubernetes`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.launch import cost, inputs, queue, template
from worker.launch.here import CHECKOUT
from worker.launch.kubernetes import manifest
from worker.launch.kubernetes.asked import Asked, asked, is_url, place
from worker.launch.kubernetes.standing import ended, standing
from worker.launch.launch import Receipt
from worker.launch.launcher import Launcher

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.launch.kubernetes.cluster import Cluster
    from worker.launch.kubernetes.manifest import Object
    from worker.launch.launch import Launch
    from worker.launch.launcher import Keep, Say, Standing

TEMPLATE = CHECKOUT / "env" / "kubernetes" / "worker.yaml"
FILE = "worker.yaml"


class Kubernetes(Launcher):
    name = "kubernetes"

    def check(self, launch: Launch) -> None:
        _text(launch, asked(launch))

    def render(self, launch: Launch) -> Mapping[str, str]:
        return {FILE: _text(launch, asked(launch))}

    def cost(self, launch: Launch) -> cost.Cost:
        return cost.of(launch)

    def submit(self, launch: Launch, known: Receipt | None, say: Say, keep: Keep) -> Receipt:
        from worker.launch.kubernetes import cluster as clusters

        wanted = asked(launch)
        cluster = clusters.open_cluster(wanted.context, wanted.namespace)
        notes = {"context": clusters.context_meant(wanted.context), "namespace": cluster.namespace}
        if known and known.jobs and known.notes != notes:
            raise UsageError(
                f"{launch.name} was submitted to {known.notes['context']}, namespace "
                f"{known.notes['namespace']}: delete it there, or choose another --name"
            )
        jobs = cluster.jobs(launch.name)
        _refuse_others(launch, wanted, jobs)
        _refuse_missing(wanted, cluster)
        receipt = replace(known, launch=launch) if known else Receipt(self.name, launch, place(launch))
        receipt = _knowing(replace(receipt, queue=place(launch), notes=notes), jobs)
        keep(receipt)
        _bring(launch, say)
        if receipt.jobs and self.look(receipt).is_over:
            say(f"{receipt.queue}: all is done, nothing is started")
            return receipt
        return _start(receipt, cluster, jobs, say, keep)

    def standing(self, receipt: Receipt) -> Standing:
        cluster = _cluster(receipt)
        jobs = cluster.jobs(receipt.name)
        if not jobs:
            return standing(None, ())
        pods = cluster.pods(jobs[-1])
        return standing(jobs[-1], pods, () if pods else cluster.events(jobs[-1]))

    def again(self, receipt: Receipt, say: Say) -> Receipt:
        cluster = _cluster(receipt)
        return _start(receipt, cluster, cluster.jobs(receipt.name), say, lambda _: None)

    def cancel(self, receipt: Receipt, say: Say) -> None:
        cluster = _cluster(receipt)
        living = [one for one in cluster.jobs(receipt.name) if not ended(one)]
        for job in living:
            cluster.cancel(job)
            grace = manifest.grace_s(receipt.launch)
            say(f"{_name(job)}: its workers are told to stop, and hand back their work within {grace} s")
        if not living:
            say(f"{receipt.name}: nobody works on it")

    def delete(self, receipt: Receipt, say: Say) -> None:
        cluster = _cluster(receipt)
        # those of a submission that died before it wrote them down are ours by their labels
        found = [f"job/{_name(one)}" for one in cluster.jobs(receipt.name)]
        for one in dict.fromkeys([*receipt.made, *found]):
            kind, _, name = one.partition("/")
            gone = cluster.delete(kind, name, receipt.name)
            say(f"{one}: deleted" if gone else f"{one}: is gone already, or somebody else's by now")
        say(f"{receipt.queue}: queue and answers stay")


def _cluster(receipt: Receipt) -> Cluster:
    from worker.launch.kubernetes.cluster import open_cluster

    return open_cluster(receipt.notes["context"], receipt.notes["namespace"])


def _bring(launch: Launch, say: Say) -> None:
    """What is worked on, to where the pods reach it; enqueued before any of them is paid for."""
    where = place(launch)
    if not is_url(where):
        queue.enqueue(launch, where, launch.inputs, None, say)
        return
    brought = inputs.place(launch, f"{where.rstrip('/')}-inputs")
    if brought.uploads and where.count("/") < 3:
        raise UsageError(
            f"--queue {where} is all of it, and files of this machine go beside the queue: "
            f"name a folder in it, {where}/queue"
        )
    inputs.upload(brought, say)
    queue.enqueue(launch, where, brought.named, brought.root, say)


def _start(receipt: Receipt, cluster: Cluster, jobs: list[Object], say: Say, keep: Keep) -> Receipt:
    """A Job cannot be changed, so each start is one of its own; the ended ones stay to be looked at."""
    from worker.launch.kubernetes.cluster import generation, left_out

    if jobs and not ended(jobs[-1]):
        say(f"{_name(jobs[-1])} works already")
        return receipt
    number = generation(jobs[-1]) + 1 if jobs else 1
    told = manifest.objects(_text(receipt.launch, asked(receipt.launch), number))
    for one in told:
        named = f"{one['kind'].lower()}/{one['metadata']['name']}"
        receipt = receipt.also(jobs=[_name(one)] if one is told[-1] else [], made=[named])
        keep(receipt)  # first: what is made and then forgotten would never be deleted
        made = cluster.make(one)
        if made and (lost := list(dict.fromkeys(left_out(one, made)))):
            fields = ", ".join(lost)
            say(
                f"{named}: this cluster leaves out {fields}: too old for it (docs/kubernetes.md), or misspelt"
            )
    return receipt


def _text(launch: Launch, wanted: Asked, number: int = 1) -> str:
    file = Path(wanted.template) if wanted.template else TEMPLATE
    return manifest.text(template.read(file, "name another --template"), launch, wanted, number)


def _refuse_others(launch: Launch, wanted: Asked, jobs: list[Object]) -> None:
    """Who works with other settings would go on with them."""
    (*_, wished) = manifest.objects(_text(launch, wanted))
    if not jobs or ended(jobs[-1]):
        return
    there = (jobs[-1]["metadata"].get("annotations") or {}).get(manifest.ASKED)
    if there != wished["metadata"]["annotations"][manifest.ASKED]:
        raise UsageError(
            f"{_name(jobs[-1])} works already, with other settings: first "
            f"worker launch kubernetes cancel {launch.name}"
        )


def _refuse_missing(wanted: Asked, cluster: Cluster) -> None:
    """What a pod would wait for without an end."""
    named = [("secret", name, "--secret") for name in wanted.secrets]
    named += [("persistentvolumeclaim", name, "--claim") for name in wanted.claims.values()]
    named += [("serviceaccount", wanted.service_account, "--service-account")] * bool(wanted.service_account)
    for kind, name, option in named:
        if not cluster.is_there(kind, name):
            how = (
                f": kubectl create secret generic {name} --from-literal=KEY=VALUE" if kind == "secret" else ""
            )
            raise UsageError(f"{option} {name}: no such {kind} in the namespace {cluster.namespace}{how}")


def _knowing(receipt: Receipt, jobs: list[Object]) -> Receipt:
    """Those too that a submission made which died before it wrote them down."""
    names = [_name(one) for one in jobs]
    return receipt.also(jobs=names, made=[f"job/{name}" for name in names])


def _name(job: Object) -> str:
    name: str = job["metadata"]["name"]
    return name
