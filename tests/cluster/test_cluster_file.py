"""A file for `ray up` is checked before it costs a machine; those that come along hold no fault."""

import copy
import shlex
import sys

import pytest
import yaml
from conftest import PROJECT
from test_cli import invoke

from sentiflow.cluster import cluster_file
from sentiflow.errors import UserError

FILES = ["ray_cluster.yaml", "ray_cluster_local.yaml"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Make a home with the token that the files send to the machines."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    token = tmp_path / "home/.ray/auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("token")
    return token


def load(name):
    return yaml.safe_load((PROJECT / name).read_text())


def faults_of(tmp_path, text):
    """Check a cluster file that lies beside what it sends; returns what is wrong with it."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    try:
        cluster_file.check(path)
    except UserError as error:
        return [line.removeprefix(f"{path}: ") for line in str(error).splitlines()]
    return []


@pytest.mark.parametrize("name", FILES)
def test_the_cluster_files_that_come_along_hold_no_fault(name):
    cluster_file.check(PROJECT / name)


@pytest.mark.parametrize(
    ("name", "right", "wrong", "fault"),
    [
        (0, "  region:", "  regoin:", "unknown key provider.regoin: did you mean region?"),
        (0, "type: aws", "type: awz", "provider.type: awz: did you mean aws?"),
        (0, "upscaling_speed", "upscaling_sped", "unknown key upscaling_sped: did you mean"),
        (0, "ssh_user", "ssh_usr", "auth: Additional properties are not allowed"),
        (0, "min_workers: 0", "min_workers: none", "min_workers: 'none' is not of type 'integer'"),
        (0, "head_node_type: head", "head_node_type: haed", "head_node_type"),
        (0, "    node_config: &machine\n", "    node_config: &machine\n      ImageID: x\n",
         "unknown key available_node_types.head.node_config.ImageID: did you mean ImageId?"),
        (0, "MarketType", "MarketTyp", 'Unknown parameter in InstanceMarketOptions: "MarketTyp"'),
        (0, "VolumeSize: 200", "VolumeSize: big", "VolumeSize, value: big"),
        (0, "      InstanceType: m7i.xlarge\n", "", "head.node_config.InstanceType is missing"),
        (0, "--dashboard-host", "--dashbord-host", "No such option '--dashbord-host'"),
        (0, "--node-manager-port=8077", "--node-manager-port=x", "'x' is not a valid integer"),
        (1, "worker_ips:", "workers_ips:", "unknown key provider.workers_ips: did you mean worker"),
        (1, "  head_ip: 192.168.1.10", "", "provider.head_ip is missing"),
        (1, "test -d ~/sentiflow/venv ||", "if test -d ~/sentiflow/venv;", "syntax error"),
        (1, ": constraints.txt", ": constraint.txt", "file_mounts: constraint.txt is not there"),
        (1, "\nprovider:\n  type: local", "\nprovider: local\nnone:", "no section provider"),
        (1, "cluster_name: s", "cluster_name: [s", "no YAML"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_place(tmp_path, name, right, wrong, fault):
    text = (PROJECT / FILES[name]).read_text()
    found = faults_of(tmp_path, text.replace(right, wrong))
    assert [line for line in found if fault in line]


def test_a_token_that_was_not_made_is_missed(tmp_path, home):
    home.unlink()
    (fault,) = faults_of(tmp_path, (PROJECT / FILES[0]).read_text())
    assert "make the token first" in fault


def test_the_command_line_says_what_is_wrong(tmp_path):
    assert invoke("config", "cluster", str(PROJECT / FILES[0])).exit_code == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text("provider: {type: local, head_pi: 10.0.0.1, worker_ips: []}\ncluster_name: x\n")
    result = invoke("config", "cluster", str(bad))
    assert result.exit_code == 2
    assert f"{bad}: unknown key provider.head_pi: did you mean head_ip?" in result.stderr
    assert invoke("config", "cluster", str(tmp_path / "none.yaml")).exit_code == 2


def test_instances_are_not_checked_where_boto3_is_not_installed(tmp_path, monkeypatch):
    text = (PROJECT / FILES[0]).read_text().replace("MarketType", "MarketTyp")
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setattr(cluster_file.importlib.util, "find_spec", lambda name: None)
    assert faults_of(tmp_path, text) == []


@pytest.mark.parametrize("name", FILES)
def test_nothing_of_the_clusters_stands_open(name):
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


def test_workers_come_from_nothing_and_may_be_spot_machines_but_the_head_works_for_none():
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
    "job": {"clusterSelector", "submissionMode", "entrypoint", "backoffLimit"},
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
    head_pod, *pods = [group["template"]["spec"] for group in (head, *groups)]
    assert head_pod["automountServiceAccountToken"], "the autoscaler asks for pods"
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["serviceAccountName"] != head_pod["serviceAccountName"]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    name = {"ray.io/cluster": cluster["metadata"]["name"]}
    assert job["spec"]["clusterSelector"] == policy["spec"]["podSelector"]["matchLabels"] == name


def commands_of(*commands):
    """Write a cluster file with commands that start Ray."""
    local = {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]}
    auth = {"ssh_user": "ada"}
    config = {"cluster_name": "x", "provider": local, "auth": auth, "max_workers": 1}
    return yaml.safe_dump(config | {"head_start_ray_commands": list(commands)})


@pytest.mark.parametrize(
    "command",
    [
        'bash -c "ray start --bad"',
        "bash -c 'ray stop; ray start --bad'",
        'echo "ray start --bad"',
        "echo ray start --bad",
        "ray stop # don't ask\nray start --head # it's the head\necho done",
        """ray start --head --resources='{"a;b": 1}' --labels='c=d&e'""",
        "ray start --head > ~/ray.log 2>&1",
        "ray start --head &> ~/ray.log || exit 1",
        "ray start --head 2>/dev/null >>log </dev/null &",
        "ray start --help",
        'ray start --address=$RAY_HEAD_IP:6379 --num-cpus "$(nproc --ignore 2)" $MORE',
        "ray start --num-cpus `nproc` \\\n  --head",
        "cat <<X\nray start --bad\nX",
        "if ! ray start --head; then exit 1; fi",
        "(ray start --head)",
        "ray start --head; echo $(ray start --bad)",
        "ray start --temp-dir='$('\"a\"'\")'",
    ],
)
def test_a_command_that_a_shell_can_run_holds_no_fault(tmp_path, command):
    assert faults_of(tmp_path, commands_of(command)) == []


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("ulimit -n 65536; ray start --hed", "No such option '--hed'"),
        ("ulimit -n 65536 && A=1 ~/venv/bin/ray start --head 2>&1 extra", "argument (extra)"),
        ("if true; then ray start --num-cpus=two; fi", "'two' is not a valid integer"),
        ("ray stop\nray start \\\n  --head --prot 1", "No such option '--prot'"),
        ("ray start --head > 'it", "unexpected EOF"),
    ],
)
def test_a_bad_option_is_found_wherever_ray_is_started(tmp_path, command, fault):
    (found,) = faults_of(tmp_path, commands_of("ray stop", command))
    assert found.startswith("head_start_ray_commands: ")
    assert fault in found


ODD = [None, 1, -0.5, True, "x", [], ["x"], [None], {}, {"x": 1}, {1: []}, {"x": None}, "\ud800"]


def places_in(value, place=()):
    """Give the place of everything in a file, as keys from outside."""
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, item in items:
        yield (*place, key)
        yield from places_in(item, (*place, key))


@pytest.mark.parametrize("name", FILES)
def test_no_odd_value_is_stumbled_over(tmp_path, name):
    whole = load(name)
    for number, place in enumerate(places_in(whole)):
        for odd in ODD[number % 6 :: 6]:
            config = copy.deepcopy(whole)
            section = config
            for key in place[:-1]:
                section = section[key]
            section[place[-1]] = odd
            faults_of(tmp_path, yaml.safe_dump(config))  # raises nothing else


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("available_node_types: [x]", "available_node_types: ['x'] is not of type 'object'"),
        ("available_node_types: x", "available_node_types: 'x' is not of type 'object'"),
        ("available_node_types: {head: null}", "head: None is not of type 'object'"),
        ("available_node_types: {a: {node_config: x}}", "node_config: 'x' is not of type 'object'"),
        ("available_node_types: {1: {}}", "the key available_node_types.1 is no text"),
        ("setup_commands: x", "setup_commands: 'x' is not of type 'array'"),
        ("setup_commands: [1]", "setup_commands.0: 1 is not of type 'string'"),
        ("file_mounts: [a]", "file_mounts: ['a'] is not of type 'object'"),
        ("provider: {type: [aws]}", "provider.type: ['aws'] is not of type 'string'"),
        ("provider: {type: local, worker_ips: null}", "worker_ips: None is not of type 'array'"),
        ("provider: {type: local, worker_ips: 3}", "worker_ips: 3 is not of type 'array'"),
        ("provider: {type: local, worker_ips: [3]}", "provider.worker_ips: 3 is no address"),
        ("provider: {type: local, head_ip: 3}", "head_ip: 3 is not of type 'string'"),
        ("x: &x [*x]", "Circular reference"),
        ("x: " + "[" * 3000, "too many brackets"),
        ("x: 2024-13-01", "no YAML"),
        ("x: !!int ''", "no YAML"),
    ],
)
def test_what_has_a_wrong_type_is_named_and_nothing_stumbles_over_it(tmp_path, section, fault):
    text = "cluster_name: x\n" + section + "\n"
    text += "" if section.startswith("provider") else "provider: {type: aws, region: x}\n"
    assert [line for line in faults_of(tmp_path, text) if fault in line]


def test_a_directory_is_no_cluster_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read: Is a directory"):
        cluster_file.check(tmp_path)
