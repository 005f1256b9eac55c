"""An API server in memory: versions, conflicts, watches that end, and answers that get lost."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Iterator, Mapping

from worker.gpus.kube.api import Absent, Away, Conflict, Gone, Object


class FakeApi:
    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.asked: Counter[str] = Counter()
        self.fail: list[str] = []
        """what befalls the next questions: `away` is not heard, `lost` is heard but not answered"""
        self.compacted = 0
        self.page = 1000
        self._version = 0
        self._events: list[tuple[int, str, str, Object]] = []
        self._happened = threading.Condition()
        self._ended = 0

    # as a manager asks

    def get(
        self, path: str, query: Mapping[str, object] | None = None, metadata_only: bool = False
    ) -> Object:
        self._befalls("get", path)
        with self._happened:
            if query is not None:
                return self._list(path, int(str(query.get("continue") or 0)))
            if path not in self.objects:
                raise Absent(path)
            found = copy.deepcopy(self.objects[path])
        return {"metadata": found["metadata"]} if metadata_only else found

    def post(self, path: str, body: Object) -> Object:
        lost = self._befalls("post", path)
        with self._happened:
            name = f"{path}/{body['metadata']['name']}"
            if name in self.objects:
                raise Conflict(name)
            told = self._store("ADDED", name, body)
        return self._answered(told, lost)

    def put(self, path: str, body: Object) -> Object:
        lost = self._befalls("put", path)
        with self._happened:
            if path not in self.objects:
                raise Absent(path)
            if self.objects[path]["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                raise Conflict(path)
            told = self._store("MODIFIED", path, body)
        return self._answered(told, lost)

    def watch(self, path: str, query: Mapping[str, object], silence_s: float) -> Iterator[Object]:  # noqa: ARG002
        self._befalls("watch", path)
        since = int(str(query["resourceVersion"]))
        if since < self.compacted:
            raise Gone
        return self._stream(path, since)

    # as the world goes

    def set(self, path: str, told: Object) -> None:
        with self._happened:
            self._store("MODIFIED" if path in self.objects else "ADDED", path, told)

    def drop(self, path: str) -> None:
        with self._happened:
            told = self.objects.pop(path)
            self._version += 1
            told["metadata"]["resourceVersion"] = str(self._version)
            self._tell("DELETED", path, told)

    def bookmark(self, path: str) -> None:
        with self._happened:
            self._version += 1
            told = {"metadata": {"resourceVersion": str(self._version)}}
            self._tell("BOOKMARK", f"{path}/", told)

    def error(self, path: str, code: int) -> None:
        with self._happened:
            self._tell("ERROR", f"{path}/", {"code": code, "message": "it is so"})

    def forget(self) -> None:
        """What happened until now is no longer kept."""
        with self._happened:
            self._version += 1
            self.compacted = self._version
            self._events.clear()

    def end_streams(self) -> None:
        with self._happened:
            self._ended += 1
            self._happened.notify_all()

    def _list(self, path: str, after: int) -> Object:
        found = [told for name, told in sorted(self.objects.items()) if name.rpartition("/")[0] == path]
        metadata = {"resourceVersion": str(self._version)}
        if len(found) > after + self.page:
            metadata["continue"] = str(after + self.page)
        return {"metadata": metadata, "items": copy.deepcopy(found[after : after + self.page])}

    def _store(self, event: str, path: str, body: Object) -> Object:
        self._version += 1
        told = copy.deepcopy(body)
        told["metadata"] |= {"resourceVersion": str(self._version), "uid": path}
        self.objects[path] = told
        self._tell(event, path, told)
        return copy.deepcopy(told)

    def _tell(self, event: str, path: str, told: Object) -> None:
        self._events.append((self._version, event, path, copy.deepcopy(told)))
        self._happened.notify_all()

    def _stream(self, path: str, since: int) -> Iterator[Object]:
        with self._happened:
            ended, at = self._ended, 0
        while True:
            with self._happened:
                if len(self._events) < at:
                    at = 0
                fresh = self._events[at:]
                at = len(self._events)
            for version, event, name, told in fresh:
                if name.rpartition("/")[0] == path and (version > since or event == "ERROR"):
                    yield {"type": event, "object": copy.deepcopy(told)}
            with self._happened:
                if self._ended != ended:
                    return
                if len(self._events) == at:
                    self._happened.wait(1)

    def _befalls(self, verb: str, path: str) -> bool:
        self.asked[f"{verb} {path}"] += 1
        what = self.fail.pop(0) if self.fail else ""
        if what == "away":
            raise Away("nobody answers")
        return what == "lost"

    def _answered(self, told: Object, lost: bool) -> Object:
        if lost:
            raise Away("the answer was lost")
        return told
