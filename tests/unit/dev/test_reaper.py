"""Real process groups. A process that has ended is there until its parent has asked how it ended,
so the tests ask all the time, as the stack does."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import psutil
import pytest
from processes import LIMIT, until

from penstock_dev.reaper import end

REAPER = [sys.executable, "-m", "penstock_dev.reaper"]
PARENT = f"""
import subprocess, sys, time
reaper = subprocess.Popen({REAPER!r}, stdin=subprocess.PIPE, start_new_session=True)
reaper.stdin.write(sys.argv[1].encode())
reaper.stdin.flush()
print(reaper.pid, flush=True)
time.sleep(600)
"""
LOOP = "while :; do sleep 0.02; done"

Spawn = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start a shell script as the leader of a group of its own, and return when it says a line."""
    leaders = []

    def start(script: str) -> subprocess.Popen[bytes]:
        leader = subprocess.Popen(
            ["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True
        )
        leaders.append(leader)
        assert leader.stdout
        assert leader.stdout.readline() == b"ready\n"
        Thread(target=leader.wait, daemon=True).start()
        return leader

    yield start
    for leader in leaders:
        # Once its exit code was asked for, its number may be another's.
        if leader.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGKILL)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def members(group: int) -> list[int]:
    """Return the processes of a group that have not ended."""
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == group and not is_gone(pid):
                found.append(pid)
    return found


def reap(*leaders: "subprocess.Popen[bytes]") -> int:
    """Name the groups to a reaper, close the pipe and return the reaper's exit code."""
    reaper = subprocess.Popen(REAPER, stdin=subprocess.PIPE, start_new_session=True)
    reaper.communicate("".join(f"{leader.pid}\n" for leader in leaders).encode(), LIMIT)
    return reaper.returncode


def test_every_group_ends_when_the_pipe_closes(spawn: Spawn) -> None:
    leaders = [spawn(f"echo ready; {LOOP}") for _ in range(3)]
    assert reap(*leaders) == 0
    assert [leader.wait(LIMIT) for leader in leaders] == [-signal.SIGTERM] * 3


def test_without_a_group_the_reaper_ends_with_the_pipe() -> None:
    assert reap() == 0


def test_a_group_that_has_ended_by_itself_does_not_matter(spawn: Spawn) -> None:
    ended, running = spawn("echo ready"), spawn(f"echo ready; {LOOP}")
    ended.wait(LIMIT)
    assert reap(running, ended) == 0
    assert running.wait(LIMIT) == -signal.SIGTERM


def test_the_first_group_ends_when_all_the_others_have_ended(spawn: Spawn, tmp_path: Path) -> None:
    first = spawn(f"echo ready; {LOOP}")
    last_word = f"sleep 0.3; kill -0 {first.pid} && touch {tmp_path}/$$; exit 0"
    others = [spawn(f"trap '{last_word}' TERM; echo ready; {LOOP}") for _ in range(2)]
    assert reap(first, *others) == 0
    assert [other.wait(LIMIT) for other in others] == [0, 0]
    assert first.wait(LIMIT) == -signal.SIGTERM
    assert {path.name for path in tmp_path.iterdir()} == {str(other.pid) for other in others}


def test_the_reaper_outlives_a_parent_that_is_killed(spawn: Spawn) -> None:
    group = spawn(f"echo ready; {LOOP}")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(group.pid)], stdout=subprocess.PIPE
    )
    assert parent.stdout
    reaper = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert group.wait(LIMIT) == -signal.SIGTERM
    until(lambda: is_gone(reaper), "the reaper ends")


def test_a_group_that_does_not_stop_is_killed_with_all_its_members(spawn: Spawn) -> None:
    stubborn = f"trap '' TERM; echo ready; {LOOP}"
    leader = spawn(f"trap '' TERM; sh -c \"{stubborn}\" & {LOOP}")
    assert len(members(leader.pid)) >= 2
    end([leader.pid], grace=0.2)
    assert leader.wait(LIMIT) == -signal.SIGKILL
    until(lambda: not members(leader.pid), "the group is gone")


def test_what_a_leader_leaves_behind_is_killed(spawn: Spawn) -> None:
    leader = spawn("sleep 60 & echo ready")
    leader.wait(LIMIT)
    end([leader.pid], grace=0.2)
    until(lambda: not members(leader.pid), "the group is gone")


def test_the_leader_alone_is_told_to_stop_and_may_let_its_group_finish(
    spawn: Spawn, tmp_path: Path
) -> None:
    at_work = f"trap 'exit 1' TERM; echo ready; sleep 0.3; touch {tmp_path}/finished"
    leader = spawn(f"sh -c \"{at_work}\" & child=$!; trap 'wait $child; exit 0' TERM; {LOOP}")
    end([leader.pid])
    assert leader.wait(LIMIT) == 0
    assert (tmp_path / "finished").exists()
