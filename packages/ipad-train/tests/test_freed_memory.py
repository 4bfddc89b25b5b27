from __future__ import annotations

import platform

import pytest

from ipad_train.freed_memory import keep_freed_memory

SCRIPT = """
import os, resource, torch
from ipad_train.freed_memory import give_back_freed_memory, keep_freed_memory

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

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if child == 0:
    kept = []
    for _ in range(16):
        block = torch.ones(16, 2**20)  # 64 MiB
        kept.append(torch.ones(2**18))  # 1 MiB behind it, which stays
        kept.append(block)
    del block
    kept = kept[::2]
    before = resident()
    give_back_freed_memory()
    print(before - resident(), flush=True)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_freed_memory_stays_without_page_faults_until_it_is_given_back(run_process, tmp_path):
    """Also from between what stays; a process that keeps no freed memory has it from the system again and again."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    faults, given_back, faults_without = map(int, run_process([str(script)]).stdout.split())
    assert faults_without > 1000
    assert faults < faults_without / 20
    assert given_back > 15 * 2**26


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_"])
def test_what_the_user_chose_stays(name):
    assert not keep_freed_memory({name: "x"})
