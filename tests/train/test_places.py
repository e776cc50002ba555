"""Which process of a run this is: from flags, the environment, or the cluster."""

import pytest

from maskjax.errors import UserError
from maskjax.train import processes
from maskjax.train.processes import Place, find

CLUSTER = (
    *("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_LOCAL_DEVICE_IDS"),
    *("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
    *("SLURM_STEP_NUM_NODES", "OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"),
    *("JOB_COMPLETION_INDEX", "KUBERNETES_SERVICE_HOST", "CUDA_VISIBLE_DEVICES"),
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Variables of a cluster, set by `environment(NAME=value)`; none at first."""
    for name in CLUSTER:
        monkeypatch.delenv(name, raising=False)

    def set_all(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_alone():
    assert find(None, None, None) == Place()


def test_flags_win_over_the_environment(environment):
    environment(JAX_COORDINATOR_ADDRESS="a:1", JAX_NUM_PROCESSES="4", JAX_PROCESS_ID="2")
    assert find(None, None, None) == Place("a:1", 4, 2, None, "given")
    assert find("b:2", None, 3) == Place("b:2", 4, 3, None, "given")
    assert find(None, 1, None) == Place()


SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


def test_slurm_with_one_task_a_node_uses_all_its_gpus(environment):
    environment(**SLURM, SLURM_STEP_NUM_NODES="2", CUDA_VISIBLE_DEVICES="0,1,2,3")
    place = find(None, None, None)
    assert (place.count, place.index) == (2, 1)
    assert place.address.startswith("gpu07:")
    assert place.local_devices == (0, 1, 2, 3)
    environment(JAX_LOCAL_DEVICE_IDS="1,2")
    assert find(None, None, None).local_devices == (1, 2)


def test_slurm_with_one_task_a_gpu(environment):
    environment(**SLURM | {"SLURM_LOCALID": "1"}, SLURM_STEP_NUM_NODES="1")
    assert find(None, None, None).local_devices == (1,)


def test_open_mpi(environment):
    environment(
        OMPI_MCA_orte_hnp_uri="1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
        OMPI_COMM_WORLD_SIZE="3",
        OMPI_COMM_WORLD_RANK="2",
        OMPI_COMM_WORLD_LOCAL_RANK="0",
    )
    place = find(None, None, None)
    assert (place.count, place.index) == (3, 2)
    assert place.address.startswith("10.96.0.1:")


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("OMPI_COMM_WORLD_SIZE", "4", "Open MPI"),
        ("JOB_COMPLETION_INDEX", "3", "an indexed Kubernetes job"),
        ("JOB_COMPLETION_INDEX", "0", "an indexed Kubernetes job"),
    ],
)
def test_signs_of_several_processes_are_not_passed_over(environment, name, value, what):
    """Else every process would take the workdir for its own."""
    environment(**{name: value})
    with pytest.raises(UserError, match=f"one of {what}, but not found.*--coordinator-address"):
        find(None, None, None)
    assert find(None, 1, None) == Place()


def test_what_is_lacking_is_named():
    with pytest.raises(UserError, match="by jax: --coordinator-address, --process-id"):
        find(None, 3, None)


def test_impossible_numbers(environment):
    with pytest.raises(UserError, match=r"--process-id=3: must be 0 \.\. 2"):
        find("a:1", 3, 3)
    environment(JAX_PROCESS_ID="one")
    with pytest.raises(UserError, match="JAX_PROCESS_ID=one"):
        find("a:1", 3, None)


def test_a_single_process_has_a_name_and_joins_nobody():
    processes.start(Place())
    assert len(processes.names()) == 1
    assert processes.first()
