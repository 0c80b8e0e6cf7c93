"""What is freed stays: a process of its own counts its page faults."""

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, resource, sys, threading
if sys.argv[1] == "keep":
    from sentidistill_jax.cpu_workarounds import keep_freed_memory
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def use(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use(256 << 20)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

counts = []
for _ in range(2):  # from threads, as XLA does
    thread = threading.Thread(target=faults)
    thread.start()
    thread.join()
print(*counts)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_the_second_call_finds_the_pages_of_the_first():
    def faults(how):
        command = [sys.executable, "-c", SCRIPT, how]
        first, second = subprocess.run(command, capture_output=True, check=True).stdout.split()
        return int(first), int(second)

    (_, kept), (_, fresh) = faults("keep"), faults("default")
    assert kept < 0.1 * fresh
