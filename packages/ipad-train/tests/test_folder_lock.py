from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from ipad_train import folder_lock
from ipad_train.folder_lock import FolderBusyError, FolderLock


def test_a_folder_takes_one_at_a_time_and_says_who(tmp_path):
    lock = FolderLock(tmp_path, "trains in")
    with pytest.raises(FolderBusyError, match=f"process {os.getpid()} trains in {tmp_path}"):
        FolderLock(tmp_path, "indexes")
    lock.release()
    lock.release()
    FolderLock(tmp_path, "indexes").release()


DIES_BEFORE_ITS_CHILD = """
import os, sys, time
from pathlib import Path
from ipad_train.folder_lock import FolderLock

lock = FolderLock(Path(sys.argv[1]), "trains in")
child = os.fork()
if child == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
sys.stdin.read()
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_frees_the_folder_though_its_workers_live_on(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", DIES_BEFORE_ITS_CHILD, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(process.stdout.readline())
    try:
        with pytest.raises(FolderBusyError, match=f"process {process.pid} trains in"):
            FolderLock(tmp_path, "trains in")
        process.stdin.close()
        assert process.wait() == -signal.SIGKILL
        FolderLock(tmp_path, "trains in").release()
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_a_file_system_without_locks_is_named_and_not_taken_for_another_process(tmp_path, monkeypatch):
    def refused(*arguments):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(folder_lock.fcntl, "flock", refused)
    with pytest.warns(UserWarning, match=r"without locks .*not supported.*no other process trains in it"):
        FolderLock(tmp_path, "trains in").release()
