"""Memory that tensors free stays with the process."""

import subprocess
import sys

PROGRAM = """
import resource
import torch
from egopose_ros.training.allocator import keep_freed_memory


def touched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.ones(64 << 18)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


touched()
print(touched(), keep_freed_memory(), *(touched() for _ in range(12)))
"""


def test_freed_memory_is_not_cleared_again():
    """In a process of its own, for allocators are told once."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=100)
    before, told, *after = done.stdout.split()
    assert told == "True"
    assert int(before) > 5000  # pages of 4 KiB that the system cleared at their first touch
    assert min(map(int, after[-4:])) < int(before) / 50  # once the holes between small blocks are filled
