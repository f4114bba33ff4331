import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import toy_bank
from inkfold.augment.views import IDENTITY, parse_view
from inkfold.errors import CacheError
from inkfold.features.executors import InlineExecutor
from inkfold.features.extractor import extract
from inkfold.features.ray_cluster import RayExecutor, _run_on_machine
from inkfold.features.tasks import plan_chunks
from inkfold.finetune.ray_train import share_out
from inkfold.pipeline.train import train
from inkfold.runtime.ray import LOCAL, LOOPBACK
from toy import RECIPE, RUN_FILES, files_below, toy_data, toy_recipe
from toy_bank import descendants, ended, killed_once, name_of, real_bank, shard_files

ray = pytest.importorskip("ray", reason="Ray isn't installed: pip install 'inkfold[ray]'")
VIEWS = (IDENTITY, parse_view("rotate(9)", 0, 1))


@pytest.fixture(scope="module")
def cluster():
    opened = RayExecutor(workers=2)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr("inkfold.features.tasks.CPU_CHUNK_ROWS", 32)


def test_an_address_where_nobody_answers_is_reported_at_once(tmp_path):
    job, digests = real_bank(tmp_path, 20)
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))  # and not listening
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        with pytest.raises(CacheError, match=rf"on: Ray at {address}: .*refused\. Check `ray status` there, or take on=pool"):
            extract(job, {IDENTITY: digests}, RayExecutor(address))


def test_ray_leaves_the_same_bytes_as_this_process(tmp_path, cluster):
    for name, executor in (("inline", InlineExecutor()), ("ray", cluster)):
        job, digests = real_bank(tmp_path / name, 150)
        reports = []
        extraction = extract(
            job, dict.fromkeys(VIEWS, digests), executor, lambda *report, reports=reports: reports.append(report)
        )
        assert (extraction.forwards, reports[-1]) == (300, ("features", 300, 300))
    assert len(shard_files(tmp_path / "inline")) == 10
    assert shard_files(tmp_path / "ray") == shard_files(tmp_path / "inline")
    assert [path.name for path in (tmp_path / "ray").iterdir() if path.is_file()] == [], "no marker is left"


def test_only_the_chunk_whose_worker_was_killed_is_done_again(tmp_path, cluster, monkeypatch):
    ray.cloudpickle.register_pickle_by_value(toy_bank)  # Ray's workers don't find the tests' modules
    monkeypatch.setattr("inkfold.features.ray_cluster._run_on_machine", toy_bank.noted_on_machine)
    job, digests = real_bank(tmp_path, 150)
    begun = killed_once(job, digests, cluster, victim=2)
    plan = [name_of(chunk) for chunk in plan_chunks(job, {IDENTITY: digests})]
    assert Counter(begun) == Counter([*plan, plan[2]])
    assert len(shard_files(tmp_path)) == 5


FINETUNED = RECIPE.replace("name: test_resnet", "name: test_vit, train: all").replace("size: 32", "size: 160")
SETTINGS = ("finetune.epochs=2", "finetune.batch_size=6", "finetune.precision=float32", "folds.split=holdout")


@pytest.mark.slow  # Ray Train starts seven processes, most of which import PyTorch
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_processes_that_train_on_ray_agree_with_one_though_one_of_them_is_killed(tmp_path, cluster, monkeypatch):
    data, recipe = toy_data(tmp_path / "data"), toy_recipe(tmp_path, FINETUNED)
    alone = train(recipe, *SETTINGS, data=data, out=tmp_path / "alone")
    killed, shares = [], []

    def kill_one(stage: str, done: int, total: int) -> None:
        if stage.startswith("fine-tuning") and not killed:
            killed.append([pid for pid in descendants(os.getpid()) if "RayTrainWorker" in command_of(pid)])
            os.kill(killed[0][1], signal.SIGKILL)

    def noted(*arguments):
        shares.append(share_out(*arguments))
        return shares[-1]

    monkeypatch.setattr("inkfold.finetune.ray_train.share_out", noted)
    run = train(recipe, *SETTINGS, data=data, out=tmp_path / "two", on=cluster, progress=kill_one)
    assert (len(killed[0]), shares) == (2, [(2, 1)] * 2), "two processes, begun twice"
    expected, got = (load_file(path / "weights/fold0.safetensors") for path in (alone.path, run.path))
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, atol=2e-4)
    assert files_below(run.path) == RUN_FILES | {"weights/fold0.safetensors"}


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return ""


def sockets_of(pid: int) -> set[str]:
    try:
        links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return set()
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads listening sockets from /proc")
def test_ray_listens_on_the_loopback_address_only_and_has_no_dashboard(tmp_path, cluster):
    job, digests = real_bank(tmp_path, 40)
    extract(job, {IDENTITY: digests}, cluster)
    assert {node["NodeManagerAddress"] for node in ray.nodes()} == {LOOPBACK}
    family = descendants(os.getpid())
    inodes = set().union(*map(sockets_of, family))
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = {line[1].rpartition(":")[0] for line in lines if line[3] == "0A" and line[9] in inodes}
    # 127.0.0.1, by itself and as an IPv6 address, in the kernel's byte order
    assert listening
    assert listening <= {"0100007F", "0000000000000000FFFF00000100007F"}
    commands = [command_of(pid) for pid in family]
    assert any("raylet" in command for command in commands)
    # Ray keeps a process of that name for its usage figures, without a page and, as the sockets say, without a port
    assert all("--disable-frontend" in command for command in commands if "dashboard/dashboard.py" in command)
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ, "what Ray was given is not left in this process"


def test_a_machine_that_does_not_see_the_directory_or_the_weights_says_so(tmp_path):
    job, digests = real_bank(tmp_path, 20)
    [chunk] = plan_chunks(job, {IDENTITY: digests})
    refused = _run_on_machine(chunk, ".marker-gone")
    assert isinstance(refused, CacheError)
    assert "doesn't see" in str(refused)
    assert ".marker-gone" in str(refused)
    assert "INKFOLD_HOME and the weights must lie in a directory that all see under one path" in str(refused)
    (tmp_path / ".marker-there").touch()
    elsewhere = replace(chunk, job=replace(job, backbone=replace(job.backbone, weights_file=str(tmp_path / "w.pth"))))
    assert "w.pth" in str(_run_on_machine(elsewhere, ".marker-there"))


def test_an_error_in_a_worker_is_reported_as_it_is(tmp_path, cluster):
    job, digests = real_bank(tmp_path, 40)
    for path in (tmp_path / "pixels").rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(CacheError, match=r"has no rows|rows are gone"):
        extract(job, {IDENTITY: digests}, cluster)


def test_a_full_disk_in_a_worker_is_reported_as_it_is(tmp_path, cluster, monkeypatch):
    ray.cloudpickle.register_pickle_by_value(toy_bank)
    monkeypatch.setattr("inkfold.features.ray_cluster._run_on_machine", toy_bank.on_machine_with_full_disk)
    job, digests = real_bank(tmp_path, 20)
    with pytest.raises(CacheError, match=r"safetensors: No space left on device\. Free some space or set INKFOLD_HOME"):
        extract(job, {IDENTITY: digests}, cluster)
    assert shard_files(tmp_path) == {}


@pytest.mark.slow  # Ray's own processes take their time to start and to end
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_ctrl_c_ends_ray_and_its_workers_and_what_is_done_is_kept(tmp_path):
    assert ended(tmp_path, "ray", signal.SIGINT).strip().endswith("KeyboardInterrupt")
    assert len(shard_files(tmp_path)) == 1
    assert list(tmp_path.glob("marker*")) == []


def test_another_cluster_than_the_one_that_was_joined_is_refused(tmp_path, cluster):
    job, digests = real_bank(tmp_path, 20)
    extract(job, {IDENTITY: digests[:10]}, cluster)
    with pytest.raises(CacheError, match=r"has joined Ray at 127\.0\.0\.1:\d+ before, not at 10\.0\.0\.1:6379"):
        extract(job, {IDENTITY: digests}, RayExecutor("10.0.0.1:6379"))


def test_a_cluster_without_the_wanted_device_is_reported(tmp_path, cluster):
    job, digests = real_bank(tmp_path, 20)
    with pytest.raises(CacheError, match="the Ray cluster has no GPU to work on"):
        extract(replace(job, device="cuda"), {IDENTITY: digests}, cluster)


LOST = """
import os, signal, sys, threading
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
import inkfold.features.tasks, inkfold.features.ray_cluster
import toy_bank
from inkfold.features.executors import open_executor

inkfold.features.tasks.CPU_CHUNK_ROWS = 32
inkfold.features.ray_cluster._run_on_machine = toy_bank.noted_on_machine
ray.cloudpickle.register_pickle_by_value(toy_bank)
machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
for _ in range(2):
    machines.add_node(num_cpus=1)

def lose(pid):
    raylet = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    [lost] = [one for one in machines.worker_nodes if raylet in [it.process.pid for it in one.all_processes["raylet"]]]
    machines.remove_node(lost, allow_graceful=False)

job, digests = toy_bank.real_bank(Path(sys.argv[1]), 150)
with open_executor(f"ray:{machines.address}") as executor:
    toy_bank.killed_once(job, digests, executor, 2, lose)
machines.shutdown()
"""


@pytest.mark.slow  # a head and two nodes, each a set of daemons
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the node of a process in /proc")
def test_only_the_chunks_of_a_lost_node_are_done_again(tmp_path):
    environment = {**os.environ, **LOCAL, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", LOST, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    job, digests = real_bank(tmp_path / "plan", 150)
    plan = [name_of(chunk) for chunk in plan_chunks(job, {IDENTITY: digests})]
    assert Counter((tmp_path / "begun").read_text().split()) == Counter([*plan, plan[2]])
    assert len(shard_files(tmp_path)) == 5
