from __future__ import annotations

import platform

import pytest

from ipad_train.freed_memory import keep_freed_memory

HOLES = """
import torch
from ipad_train.freed_memory import give_back_freed_memory, keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

assert keep_freed_memory()
kept = []
for _ in range(16):
    block = torch.ones(16, 2**20)  # 64 MiB
    kept.append(torch.ones(2**18))  # 1 MiB behind it, which stays
    kept.append(block)
del block
kept = kept[::2]
before = resident()
give_back_freed_memory()
print(before - resident())
"""

SCRIPT = """
import os, resource, torch
from ipad_train.freed_memory import keep_freed_memory

child = os.fork()
if child == 0:
    assert keep_freed_memory()
else:
    os.wait()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(16, 2**20) for _ in range(3)]  # 64 MiB each
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for _ in range(8):  # until the heap has found its size
    faults()
print(faults(), flush=True)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_memory_that_was_freed_is_there_without_page_faults(run_process, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    kept, given_back = map(int, run_process([str(script)]).stdout.split())
    assert given_back > 1000
    assert kept < given_back / 20


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_"])
def test_what_the_user_chose_stays(name):
    assert not keep_freed_memory({name: "x"})


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_memory_between_what_stays_is_given_back(run_process, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(HOLES)
    assert int(run_process([str(script)]).stdout) > 15 * 2**26
