"""Our cluster files are valid, and keep the cluster closed."""

import getpass
import os
import re
import shlex
import subprocess

import pytest
import yaml
from conftest import PROJECT

FILES = ["ray_cluster.yaml", "ray_cluster_local.yaml"]


def load(name):
    return yaml.safe_load((PROJECT / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_our_cluster_files_are_valid(name):
    from ray.autoscaler._private import util

    config = util.prepare_config(load(name))
    util.validate_config(config)
    for source in config["file_mounts"].values():
        assert source == "~/.ray/auth_token" or (PROJECT / source).exists()
    with pytest.raises(Exception, match="upscaling_sped"):
        util.validate_config(config | {"upscaling_sped": 1})


@pytest.mark.parametrize("name", FILES)
def test_our_clusters_ask_for_a_token_and_show_no_port(name):
    config = load(name)
    environment = next(text for text in config["setup_commands"] if "environment.sh" in text)
    for variable in (
        "RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0", "MLFLOW_DISABLE_TELEMETRY=true",
    ):  # fmt: skip
        assert f"export {variable}\n" in environment
    assert config["setup_commands"][0] == "chmod 700 ~/.ray && chmod 600 ~/.ray/auth_token"
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    starts = [config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]]
    for command in starts:
        assert command.startswith(". ~/sentiflow/environment.sh; ")
        assert "--disable-usage-stats" in shlex.split(command)
        assert "0.0.0.0" not in command
    assert "--dashboard-host=127.0.0.1" in shlex.split(starts[0])


def test_workers_start_at_zero_on_spot_machines_and_the_head_offers_no_cores():
    groups = load("ray_cluster.yaml")["available_node_types"]
    assert groups["head"]["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in groups["head"]["node_config"]
    for name in ("cpu", "gpu"):
        assert groups[name]["min_workers"] == 0 < groups[name]["max_workers"]
        assert groups[name]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    profiles = {str(group["node_config"]["IamInstanceProfile"]) for group in groups.values()}
    assert len(profiles) == 2, "workers have fewer rights than the head"


KUBERAY = {
    "cluster": {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions",
                "headGroupSpec", "workerGroupSpecs"},
    "head": {"serviceType", "rayStartParams", "template"},
    "group": {"groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds",
              "rayStartParams", "template"},
    "job": {"clusterSelector", "submissionMode", "submitterPodTemplate", "entrypoint",
            "backoffLimit"},
}  # fmt: skip
"""Fields of ray.io/v1 that the example may use, read off KubeRay's own definitions."""


def test_the_kuberay_example_has_the_layout_of_the_cluster_file():
    cluster, job, policy = yaml.safe_load_all((PROJECT / "docs/kuberay.yaml").read_text())
    spec = cluster["spec"]
    head, groups = spec["headGroupSpec"], spec["workerGroupSpecs"]
    assert set(spec) <= KUBERAY["cluster"]
    assert set(head) <= KUBERAY["head"]
    assert all(set(group) <= KUBERAY["group"] for group in groups)
    assert set(job["spec"]) <= KUBERAY["job"]
    assert spec["authOptions"] == {"mode": "token"}
    assert (head["serviceType"], head["rayStartParams"]["num-cpus"]) == ("ClusterIP", "0")
    aws = load("ray_cluster.yaml")["available_node_types"]
    for group in groups:
        assert group["minReplicas"] == group["replicas"] == aws[group["groupName"]]["min_workers"]
        assert group["maxReplicas"] == aws[group["groupName"]]["max_workers"]
    for pod in [head["template"]["spec"], *(group["template"]["spec"] for group in groups)]:
        (container,) = pod["containers"]
        variables = {item["name"]: item["value"] for item in container["env"]}
        assert variables["RAY_USAGE_STATS_ENABLED"] == "0"
        assert variables["MLFLOW_DISABLE_TELEMETRY"] == "true"
        assert pod["securityContext"]["runAsNonRoot"]
    submitter = job["spec"]["submitterPodTemplate"]["spec"]
    for pod in [submitter, head["template"]["spec"], *(g["template"]["spec"] for g in groups)]:
        meets_restricted(pod["securityContext"], pod["containers"][0]["securityContext"])
    meets_restricted(submitter["securityContext"], spec["autoscalerOptions"]["securityContext"])
    assert submitter["restartPolicy"] == "Never"
    assert submitter["automountServiceAccountToken"] is False
    head_pod, *pods = [group["template"]["spec"] for group in (head, *groups)]
    assert head_pod["automountServiceAccountToken"], "the autoscaler asks for pods"
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["serviceAccountName"] != head_pod["serviceAccountName"]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    name = {"ray.io/cluster": cluster["metadata"]["name"]}
    assert job["spec"]["clusterSelector"] == policy["spec"]["podSelector"]["matchLabels"] == name
    within, dashboard, metrics = policy["spec"]["ingress"]
    assert metrics["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert metrics["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]
    assert (len(within["from"]), "ports" in within) == (1, False)
    assert dashboard["ports"] == [{"port": 8265, "protocol": "TCP"}]
    _, operator = dashboard["from"]
    assert operator["namespaceSelector"] == {}, "the operator may be in any namespace"
    assert operator["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/component": "kuberay-operator"
    }, "of all its pods, only the operator"


def meets_restricted(pod, container):
    """Check what a namespace with Kubernetes' Pod Security Standard `restricted` asks for."""
    assert pod["runAsNonRoot"]
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}


def test_the_image_holds_what_jobs_need_and_nothing_else():
    """.dockerignore lets through what .rayignore does, and what pip needs."""
    listed = (PROJECT / ".dockerignore").read_text().splitlines()[1:]
    names = [line for line in listed if line.startswith("!")]
    rayignore = (PROJECT / ".rayignore").read_text()
    uploaded = {*re.findall(r"^!/(\w[\w.]*|\w+/\*\.\w+)$", rayignore, re.M)} - {"jobs", "configs"}
    assert listed[0] == "*"
    assert {name.removeprefix("!") for name in names} == {*uploaded, "README.md", "LICENSE"}
    assert {"**/.*", "**/*.env", "**/*.pem", "**/*.key"} <= set(listed)


def run_as_machine(commands, home, *, folder):
    """Run commands as `ray up` does on a machine, with another folder in place of /tmp."""
    script = "\n".join(commands).replace("/tmp/ray-", f"{folder}/ray-")
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run(["bash", "-c", script], env=environment, timeout=30).returncode


@pytest.mark.parametrize("name", FILES)
def test_ray_starts_in_a_folder_that_no_other_user_can_enter(name, tmp_path):
    (tmp_path / "sentiflow").mkdir()
    config = load(name)
    (make_environment,) = [c for c in config["setup_commands"] if "environment.sh <<" in c]
    assert run_as_machine([make_environment], tmp_path, folder=tmp_path) == 0
    mine = tmp_path / f"ray-{getpass.getuser()}"
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        stop, make_folder, start = commands
        assert stop.endswith("; ray stop")
        assert "--temp-dir=$RAY_TMPDIR/ray" in shlex.split(start)
        assert run_as_machine([make_folder], tmp_path, folder=tmp_path) == 0
        assert mine.stat().st_mode & 0o777 == 0o700
        mine.chmod(0o777)
        assert run_as_machine([make_folder], tmp_path, folder=tmp_path) == 0
        assert mine.stat().st_mode & 0o777 == 0o700
        mine.rename(tmp_path / "elsewhere")
        mine.symlink_to(tmp_path / "elsewhere")
        assert run_as_machine([make_folder], tmp_path, folder=tmp_path) != 0
        mine.unlink()
        if os.getuid() == 0:
            mine.mkdir()
            os.chown(mine, 65534, 65534)
            assert run_as_machine([make_folder], tmp_path, folder=tmp_path) != 0
            mine.rmdir()
        (tmp_path / "elsewhere").rmdir()
