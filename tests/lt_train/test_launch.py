"""Processes that one command starts."""

import signal
import subprocess
import sys

import pytest

from lt_train.launch import ENDED, STARTER, leave_code

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells of a parent's end")

OTHER = """
import time
from lt_train.launch import end_with_starter
end_with_starter()
print("up", flush=True)
time.sleep(600)
"""
START = f"""
import os, subprocess, sys, time
os.environ["{STARTER}"] = str(os.getpid())
subprocess.Popen([sys.executable, "-c", {OTHER!r}])
time.sleep(600)
"""


@on_linux
def test_what_was_started_does_not_outlive_its_starter():
    """A second Ctrl-C, and a kill, leave the starter no time to end the others."""
    with subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout.readline() == "up\n"
        starter.kill()
        # the end of what both of them may write to
        assert starter.stdout.read() == ""


@on_linux
def test_a_starter_that_is_gone_already_is_noticed():
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    env = {STARTER: str(gone.pid)}
    run = subprocess.run([sys.executable, "-c", OTHER], env=env, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (-signal.SIGTERM, "")


def test_a_code_is_left_for_nobody_where_the_starter_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv(ENDED, str(tmp_path / "gone" / "ended"))
    leave_code(75)
    assert not (tmp_path / "gone").exists()
