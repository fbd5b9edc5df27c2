"""Softening, segmenting and comparing on a Ray cluster of two machines, both of them this one."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sfumato.cases.dataset import Dataset
from sfumato.labels.superpixels import SuperpixelSettings
from sfumato.storage import claim_folder
from sfumato.workflow.softening import SofteningConfig, SofteningRequest, soften_cases

pytestmark = [
    pytest.mark.slow,
    # Of Ray's own making: sockets and processes it leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Item = TypeVar("Item")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a head and a second machine with one core each, reachable from here only."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'sfumato[ray]'")
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Else Ray would put this machine's outer address for 127.0.0.1, where nothing listens.
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)

    machine = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80_000_000}
    head = {**machine, "include_dashboard": False, "dashboard_host": "127.0.0.1"}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.second = cluster.add_node(**machine)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def test_a_machine_that_is_lost_costs_nothing_and_doubles_nothing(
    sfumato: Callable, cluster: Any, flat_data: Path, tmp_path: Path
) -> None:
    config = SofteningConfig(superpixels=SuperpixelSettings(size_mm=6))
    lost_after = []

    def lose_a_machine(items: Iterable[Item], _description: str, _total: int) -> Iterator[Item]:
        for n_done, item in enumerate(items, start=1):
            if n_done == 3:
                cluster.remove_node(cluster.second, allow_graceful=False)
                lost_after.append(n_done)
            yield item

    out = tmp_path / "on_ray"
    claim_folder(out, overwrite=False)
    # Pictures take so long that both machines are at work when one of them goes.
    request = SofteningRequest(ray=cluster.address)
    failures = soften_cases(Dataset.open(flat_data), config, out, request, lose_a_machine)
    assert lost_after == [3]
    assert failures == []
    lines = (out / "manifest.jsonl").read_text("utf-8").splitlines()
    done = Counter(json.loads(line).get("case") for line in lines[1:])
    assert done == {f"case_{i:02}": 1 for i in range(10)}

    alone = tmp_path / "alone"
    outcome = sfumato("soften", flat_data, "--out", alone, "--no-pictures",
                      "--set=superpixels.size_mm=6")  # fmt: skip
    assert outcome.code == 0, outcome.err
    for path in alone.glob("*.nii.gz"):
        assert (out / path.name).read_bytes() == path.read_bytes()


def results_of(out: Path) -> dict[str, Any]:
    """Read what an experiment found, without when and how fast."""
    written = json.loads((out / "comparison.json").read_text("utf-8"))
    runs = [{**run, "seconds": None} for run in written["runs"]]
    return {**written, "created": None, "runs": runs}


def test_models_are_the_same_wherever_they_were_trained(
    sfumato: Callable, cluster: Any, quick_flat: tuple, flat_data: Path, tmp_path: Path
) -> None:
    command = (
        "compare", flat_data, "--steps=4", "--folds=0/5", "--seeds=2", "--noise=none,jitter:2",
        *quick_flat,
    )  # fmt: skip
    outcome = sfumato(*command, "--out", tmp_path / "on_ray", "--ray", cluster.address)
    assert outcome.code == 0, outcome.err
    outcome = sfumato(*command, "--out", tmp_path / "here", "--workers=4")
    assert outcome.code == 0, outcome.err
    assert results_of(tmp_path / "on_ray") == results_of(tmp_path / "here")
    for path in sorted((tmp_path / "here").glob("runs/*/model/weights.safetensors")):
        on_ray = tmp_path / "on_ray" / path.relative_to(tmp_path / "here")
        assert on_ray.read_bytes() == path.read_bytes()
    outcome = sfumato(*command, "--out", tmp_path / "gpu", "--ray", cluster.address,
                      "--device=cuda")  # fmt: skip
    assert outcome.code == 2
    assert "the cluster has no GPU" in outcome.err


def test_segmentations_are_the_same_wherever_they_were_made(
    sfumato: Callable, cluster: Any, flat_run: Path, flat_data: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(flat_data / "images", images)
    (images / "case_04.png").write_bytes(b"no picture")
    command = ("segment", flat_run, images, "--uncertainty", "--device=cpu", "--engine=torch")
    on_ray, here = tmp_path / "on_ray", tmp_path / "here"
    outcome = sfumato(*command, "--out", on_ray, "--ray", cluster.address)
    assert outcome.code == 1
    assert "case_04: " in outcome.err.splitlines()[-1]
    assert sfumato(*command, "--out", here).code == 1
    for path in sorted(here.rglob("*.*")):
        if path.is_file() and path.name not in (".sfumato", "cases.jsonl", "run.json"):
            assert (on_ray / path.relative_to(here)).read_bytes() == path.read_bytes(), path

    shutil.copy(flat_data / "images" / "case_04.png", images / "case_04.png")
    outcome = sfumato(*command, "--out", on_ray, "--ray", cluster.address, "--resume")
    assert outcome.code == 0, outcome.err
    assert "Segmenting, 9 are done (1)" in outcome.out


def test_a_cluster_that_is_not_there_is_one_plain_line(
    sfumato: Callable, monkeypatch: pytest.MonkeyPatch, small_flat: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'sfumato[ray]'")
    # Where Ray notes the clusters of this machine, which may run one.
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    outcome = sfumato("soften", small_flat, "--out", tmp_path / "soft", "--ray=auto")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1] == (
        "error: --ray auto: there is no such cluster; start one with ray start --head, and give"
        " its address"
    )
