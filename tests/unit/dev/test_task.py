"""The command `./task`."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_it_ends_with_what_the_command_of_a_task_ended_with(tmp_path: Path, code: int) -> None:
    shutil.copy(ROOT / "task", tmp_path)
    tasks = f"version: '3'\ntasks: {{it: {{cmds: [exit {code}]}}}}\n"
    (tmp_path / "Taskfile.yml").write_text(tasks)
    tools = {"PATH": f"{ROOT / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    ended = subprocess.run(
        [tmp_path / "task", "it"], env=os.environ | tools, capture_output=True, check=False
    )
    assert ended.returncode == code
