"""The Job that workers are: filled in for every kind of card, and refused where it cannot go well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.errors import UsageError, WorkerError
from worker.hardware import gpus
from worker.launch import template
from worker.launch.kubernetes import manifest, products
from worker.launch.kubernetes.launcher import TEMPLATE, Kubernetes
from worker.launch.launch import Launch
from worker.launch.order import read_profile

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted(file.stem for file in (ROOT / "env").glob("*.env"))
CLOUD = {
    "az": "azure.workload.identity/client-id",
    "s3": "eks.amazonaws.com/role-arn",
    "gs": "iam.gke.io/gcp-service-account",
}


def launched(hw: str = "a100", **said: Any) -> Launch:
    profile = read_profile(ROOT, hw, {})
    usual = {"queue": "az://container/queue", "image": "registry/gpu-batch-worker:ampere"}
    return Launch("worker", profile, **{"gpus": int(profile.has_gpu), **usual, **said})


def rendered(launch: Launch) -> list[dict[str, Any]]:
    (text,) = Kubernetes().render(launch).values()
    return list(yaml.safe_load_all(text))


def job(launch: Launch) -> dict[str, Any]:
    told: dict[str, Any] = rendered(launch)[-1]
    return told


def pod(launch: Launch) -> dict[str, Any]:
    told: dict[str, Any] = job(launch)["spec"]["template"]["spec"]
    return told


def worker_of(launch: Launch) -> dict[str, Any]:
    (told,) = pod(launch)["containers"]
    return dict(told)


def variables(launch: Launch) -> dict[str, str]:
    return {one["name"]: one["value"] for one in worker_of(launch)["env"]}


# what is shipped


def test_the_shipped_file_is_what_an_a100_gets() -> None:
    shipped = yaml.safe_load(TEMPLATE.read_text())
    told = job(launched(settings={"secret": ["queue"]}))
    del told["metadata"]["annotations"]
    assert told == shipped
    (text,) = Kubernetes().render(launched()).values()
    assert "# a node is drained" in text


@pytest.mark.parametrize("hw", PROFILES)
def test_the_schemas_take_what_every_profile_gets(hw: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    many = {
        "secret": ["queue"],
        "identity": "id",
        "claims": ["films:/films"],
        "tolerated": ["spot=true:NoSchedule"],
    }
    more = {"memory": "24Gi", "selectors": ["pool=gpu"], "cpu": "1500m"}
    for launch in (launched(hw), launched(hw, workers=4, time_limit_s=3600, settings={**many, **more})):
        for told in rendered(launch):
            for version in ("1.29", "1.34"):
                schemas.validate(told, version, strict=True)
    wrong = job(launched(hw))
    wrong["spec"]["podFailurePolicy"]["rules"][0]["onPodCondition"] = []
    with pytest.raises(schemas.ValidationError):
        schemas.validate(wrong, "1.34", strict=True)


@pytest.mark.parametrize("hw", PROFILES)
def test_a_profile_asks_for_its_own_cards(hw: str) -> None:
    launch = launched(hw, gpus=2 if hw != "cpu" else 0)
    resources, environment = worker_of(launch)["resources"], variables(launch)
    assert environment["WORKER_HW"] == hw
    if hw == "cpu":
        assert "limits" not in resources
        assert not {"affinity", "tolerations", "nodeSelector"} & set(pod(launch))
        return
    assert resources["limits"] == {"nvidia.com/gpu": 2}
    assert environment["WORKER_GPUS"] == "all"
    terms = pod(launch)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (labelled, *_) = terms["nodeSelectorTerms"]
    assert labelled["matchExpressions"][0]["key"] == "nvidia.com/gpu.product"


def test_every_label_of_a_profile_names_a_card_that_our_table_has_there() -> None:
    for hw in PROFILES:
        for label in products.labels_of(hw).get(products.NVIDIA, ()):
            named = [gpus.find(name) for name in (label, label.replace("-", " "))]
            assert hw in {one.hw for one in named if one}, label
    assert {hw for hw in PROFILES if products.labels_of(hw)} == set(PROFILES) - {"cpu"}


# how it ends, and who it is


def test_a_stopped_worker_comes_again_and_one_that_is_done_does_not() -> None:
    rules = job(launched())["spec"]["podFailurePolicy"]["rules"]
    codes = {code: one["action"] for one in rules for code in one.get("onExitCodes", {}).get("values", ())}
    assert codes == {75: "Ignore", 1: "FailIndex", 3: "FailIndex", 2: "FailJob"}
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    # what the API server asks for, and no schema says
    for one in rules:
        values = one.get("onExitCodes", {}).get("values", [1])
        assert values == sorted(set(values))
        assert 0 not in values
        assert one.get("onExitCodes", {"containerName": "worker"})["containerName"] == "worker"
    assert pod(launched())["restartPolicy"] == "Never"
    assert job(launched())["spec"]["backoffLimitPerIndex"] >= 4


def test_kubernetes_waits_longer_than_the_worker_needs() -> None:
    for said, grace in (({}, 50), ({"WORKER_GRACE": "2m"}, 120)):
        launch = launched(environment=said)
        assert pod(launch)["terminationGracePeriodSeconds"] == grace + 10
    assert variables(launched())["WORKER_GRACE"] == "50"


def test_a_time_limit_ends_the_job_and_the_worker_a_little_earlier() -> None:
    launch = launched(time_limit_s=3600)
    assert job(launch)["spec"]["activeDeadlineSeconds"] == 3600
    assert variables(launch)["WORKER_STOP_AFTER"] == "3550"
    assert variables(launched(time_limit_s=60))["WORKER_STOP_AFTER"] == "48"
    assert "activeDeadlineSeconds" not in job(launched())["spec"]


def test_it_has_no_right_that_it_does_not_need() -> None:
    told, worker = pod(launched()), worker_of(launched())
    assert told["automountServiceAccountToken"] is False
    assert told["securityContext"]["runAsNonRoot"] is True
    assert told["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert worker["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {one["mountPath"] for one in worker["volumeMounts"]} == {"/cache", "/tmp", "/dev/shm"}
    assert "command" not in worker  # the image's own: nothing stands between a stop and the worker


def test_each_card_has_its_cores_and_the_worker_knows_how_many() -> None:
    launch = launched(gpus=4, workers=3)
    assert worker_of(launch)["resources"]["requests"] == {"cpu": "12", "memory": "48Gi"}
    assert variables(launch)["WORKER_CHILDREN"] == "12"
    assert (job(launch)["spec"]["parallelism"], job(launch)["spec"]["completions"]) == (3, 3)
    less = launched(settings={"cpu": "500m", "memory": "24Gi"})
    assert variables(less)["WORKER_CHILDREN"] == "1"
    assert worker_of(less)["resources"]["limits"] == {"nvidia.com/gpu": 1, "memory": "24Gi"}


def test_another_makers_card_is_asked_for_by_its_own_name() -> None:
    launch = launched(settings={"resource": "amd.com/gpu"})
    assert worker_of(launch)["resources"]["limits"] == {"amd.com/gpu": 1}
    assert pod(launch)["tolerations"] == [{"key": "amd.com/gpu", "operator": "Exists"}]
    assert "affinity" not in pod(launch)
    named = launched(settings={"resource": "amd.com/gpu", "products": ["MI300X"]})
    (term,) = pod(named)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"][0] == {
        "key": "amd.com/gpu.product-name",
        "operator": "In",
        "values": ["MI300X"],
    }
    assert "affinity" not in pod(launched(settings={"products": ["any"]}))


@pytest.mark.parametrize("scheme", CLOUD)
def test_a_queue_in_a_cloud_is_reached_by_an_identity(scheme: str) -> None:
    launch = launched(queue=f"{scheme}://bucket/queue", settings={"identity": "me"})
    account, told = rendered(launch)
    assert account["metadata"]["annotations"] == {CLOUD[scheme]: "me"}
    template = told["spec"]["template"]
    assert template["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert ("azure.workload.identity/use" in template["metadata"]["labels"]) == (scheme == "az")


def test_keys_come_from_a_secret() -> None:
    launch = launched(settings={"secret": ["queue", "hub"]})
    assert worker_of(launch)["envFrom"] == [{"secretRef": {"name": name}} for name in ("queue", "hub")]
    assert "envFrom" not in worker_of(launched())


def test_a_folder_has_the_same_name_in_the_pods_as_here(tmp_path: Path) -> None:
    launch = launched(
        queue=f"{tmp_path}/queue",
        inputs=[f"{tmp_path}/films"],
        settings={"claims": [f"films:{tmp_path}/", "hub:/cache/huggingface"], "user": "1234"},
    )
    told, worker = pod(launch), worker_of(launch)
    claims = {
        one["name"]: one["persistentVolumeClaim"]["claimName"]
        for one in told["volumes"]
        if "persistentVolumeClaim" in one
    }
    places = {one["mountPath"]: claims.get(one["name"]) for one in worker["volumeMounts"]}
    assert (places[str(tmp_path)], places["/cache/huggingface"]) == ("films", "hub")
    assert worker["args"] == ["run", f"{tmp_path}/queue"]
    assert (told["securityContext"]["runAsUser"], told["securityContext"]["fsGroup"]) == (1234, 1234)


def test_what_a_template_says_besides_is_kept(tmp_path: Path) -> None:
    own = TEMPLATE.read_text().replace(
        "labels: &labels", "labels: &labels\n    kueue.x-k8s.io/queue-name: vision"
    )
    own = own.replace("restartPolicy:", "imagePullSecrets: [{name: key}]\n      restartPolicy:")
    own = own.replace("      volumes:\n", "      volumes: # mine\n        - {name: more, emptyDir: {}}\n")
    (tmp_path / "own.yaml").write_text(own)
    launch = launched("cpu", settings={"template": f"{tmp_path}/own.yaml", "claims": ["films:/films"]})
    assert job(launch)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "vision"
    assert pod(launch)["imagePullSecrets"] == [{"name": "key"}]
    names = [one["name"] for one in pod(launch)["volumes"]]
    assert names == ["more", "cache", "scratch", "shared-memory", "claim-0"]
    assert variables(launch)["WORKER_HW"] == "cpu"


@pytest.mark.parametrize("text", ["kind: Job", "", TEMPLATE.read_text() + "        image: another\n"])
def test_a_template_that_cannot_be_filled_in_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"lines that begin with .*; begin with the file"):
        Kubernetes().check(launched(settings={"template": str(tmp_path / "own.yaml")}))
    with pytest.raises(UsageError, match="cannot be read"):
        Kubernetes().check(launched(settings={"template": str(tmp_path / "none.yaml")}))


@pytest.mark.parametrize("odd", [" [", "kind: Deployment"])
def test_a_template_that_is_no_job_is_refused_before_it_is_sent(odd: str) -> None:
    with pytest.raises(UsageError, match="no Job in YAML"):
        manifest.objects(TEMPLATE.read_text().replace("kind: Job", odd))


@pytest.mark.parametrize(
    "value",
    [
        "true",
        "No",
        "1e5",
        "12",
        "a: b",
        "# x",
        "",
        "中文",
        'say "so"',
        "a, b",
        "x-1.y_z/0:80",
        "~",
        "null",
        "- a",
        "a\\n",
        "a\nb",
        "\x7f\x85\u2028\ufeff",
        "😀",
        "1_000",
        "12:30:45",
        ".inf",
        "<<",
    ],
)
def test_a_value_is_read_back_as_it_was_whatever_yaml_makes_of_such_words(value: str) -> None:
    told = template.entries({"list": [{"a": value}], "map": {"b": value}, "plain": value})
    assert yaml.safe_load("\n".join(told)) == {
        "list": [{"a": value}],
        "map": {"b": value},
        "plain": value,
    }
    launch = launched(environment={"WORKER_ODD": value})
    assert variables(launch)["WORKER_ODD"] == value


def test_a_dollar_reaches_the_worker_as_it_was_said() -> None:
    """Kubernetes reads $$ as one, and $(NAME) as a variable."""
    launch = launched(
        environment={"WORKER_ODD": "$(WORKER_HW) a$$b $"},
        queue="/films/$(WORKER_HW)/queue",
        settings={"claims": ["films:/films"]},
    )
    assert variables(launch)["WORKER_ODD"] == "$$(WORKER_HW) a$$$$b $$"
    assert worker_of(launch)["args"] == ["run", "/films/$$(WORKER_HW)/queue"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"image": ""}, "make push HW=a100 IMAGE="),
        ({"queue": ""}, "--queue is needed"),
        ({"queue": "memory://q"}, "the pods do not reach it"),
        ({"queue": "run/q"}, "a folder of this machine"),
        ({"gpus": 0}, "--hw cpu is for workers without a card"),
        ({"settings": {"claims": ["films"]}}, "write NAME:/DIR"),
        ({"settings": {"claims": ["films:/cache"]}}, "write NAME:/DIR"),
        ({"settings": {"claims": ["films:/a"]}, "queue": "/b/q"}, "/b/q is a folder of this machine"),
        (
            {"settings": {"claims": ["f:/a"]}, "queue": "/a/q", "inputs": ["/usr"]},
            "/usr is a folder of this machine",
        ),
        ({"settings": {"claims": ["f:/a"]}, "queue": "/a/q", "inputs": ["/b/*.mp4"]}, "/b/*.mp4 is a folder"),
        ({"settings": {"claims": ["films:/a"]}, "queue": "/a/../b/q"}, "is a folder of this machine"),
        ({"settings": {"resource": "gpu"}}, "--resource gpu: write it like amd.com/gpu"),
        ({"settings": {"memory": "lots"}}, "--memory lots: write it like 24Gi"),
        ({"settings": {"cpu": "-1"}}, "--cpu -1: write it like 8"),
        ({"settings": {"secret": ["A_b"]}}, "--secret A_b"),
        ({"settings": {"selectors": ["gpu"]}}, "--node-selector gpu: write it like pool=gpu"),
        ({"settings": {"tolerated": ["a b"]}}, "--tolerate a b"),
        ({"settings": {"user": "0:0"}}, "not root's"),
        ({"settings": {"identity": "a", "service_account": "b"}}, "only one of them"),
        (
            {"settings": {"identity": "a", "claims": ["films:/a"]}, "queue": "/a/q"},
            "asks no cloud who we are",
        ),
    ],
)
def test_what_cannot_go_well_is_refused_in_one_line(said: dict[str, Any], told: str) -> None:
    with pytest.raises(WorkerError) as refused:
        Kubernetes().check(launched(**said))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_card_is_not_asked_for_where_there_is_none() -> None:
    with pytest.raises(UsageError, match="which has none"):
        Kubernetes().check(replace(launched("cpu"), gpus=1))
