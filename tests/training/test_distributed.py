"""Where a process stands among others, and how they share out a batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import ConfigError
from sfumato.training.distributed import ALONE, Place, World, find_place, join

SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_JOB_ID": "123456",
}


def test_a_process_that_was_started_by_itself_is_alone() -> None:
    assert find_place({}) == Place(rank=0, size=1)
    with join({}) as world:
        assert world is ALONE
        assert world.is_first
        assert world.of_each(lambda: 3) == world.of_first(lambda: 3) == 3
        assert world.exchange(2.5) == [2.5]


def test_torchrun_says_where_a_process_stands() -> None:
    environment = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "x"}
    expected = Place(rank=3, size=4, local_rank=1, meeting_point="env://")
    assert find_place(environment) == expected
    assert find_place({**SLURM, **environment}) == expected  # torchrun within a SLURM job


def test_srun_says_where_a_process_stands_and_all_agree_where_they_meet() -> None:
    place = find_place(SLURM)
    assert (place.rank, place.size, place.local_rank) == (5, 8, 1)
    assert place.meeting_point == "tcp://gpu07:23456"
    assert find_place({**SLURM, "SLURM_PROCID": "0"}).meeting_point == place.meeting_point
    assert find_place({**SLURM, "SLURM_STEP_ID": "1"}).meeting_point == "tcp://gpu07:24456"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("n[1-3]", "n1"),
        ("n[003,005-7],m1", "n003"),
        ("c-[4-5]-ib,d", "c-4-ib"),
    ],
)
def test_processes_meet_on_the_first_machine_of_a_slurm_step(nodes: str, first: str) -> None:
    place = find_place({**SLURM, "SLURM_STEP_NODELIST": nodes})
    assert place.meeting_point == f"tcp://{first}:23456"


def test_a_meeting_point_can_be_chosen() -> None:
    chosen = {**SLURM, "MASTER_ADDR": "here", "MASTER_PORT": "77"}
    assert find_place(chosen).meeting_point == "tcp://here:77"


def test_a_batch_script_that_srun_did_not_start_is_alone() -> None:
    batch = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "1", "SLURM_LOCALID": "0"}
    assert find_place(batch).size == 1


@pytest.mark.parametrize("name", sorted(SLURM.keys() - {"SLURM_STEP_NUM_TASKS"}))
def test_an_incomplete_environment_is_a_plain_error(name: str) -> None:
    incomplete = {key: value for key, value in SLURM.items() if key != name}
    with pytest.raises(ConfigError, match=f"environment .*{name}.*torchrun or srun"):
        find_place(incomplete)


@given(n=st.integers(1, 100), size=st.integers(1, 20))
def test_shares_make_up_the_whole_and_are_about_as_large(n: int, size: int) -> None:
    shares = [World(place=Place(rank=rank, size=size)).share(n) for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(n))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1
