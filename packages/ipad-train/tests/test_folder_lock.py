from __future__ import annotations

import os

import pytest

from ipad_train.folder_lock import FolderBusyError, FolderLock


def test_a_folder_takes_one_at_a_time_and_says_who(tmp_path):
    lock = FolderLock(tmp_path, "trains in")
    with pytest.raises(FolderBusyError, match=f"process {os.getpid()} trains in {tmp_path}"):
        FolderLock(tmp_path, "indexes")
    lock.release()
    lock.release()
    FolderLock(tmp_path, "indexes").release()
