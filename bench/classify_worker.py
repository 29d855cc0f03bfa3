"""Something that classifies, as a process on one core: ours or a peer, spoken to line by line.

Starts it, asks it to time a file of texts, reads what it and the rest of the machine used meanwhile, and ends it. The
protocol is described in crates/classify/examples/timed.rs. Called by classify.py and classify_memory.py.
"""

import json
import os
import subprocess
import time

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
MIB = 1 << 10  # of /proc's kB
STOP_S = 10.0
# One thread each, whatever a library would like.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}


def memory(pid):
    """Resident memory of a process in MiB: all, anonymous, and pages of files."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        lines = dict(line.split(":", 1) for line in file)
    read = lambda name: int(lines[name].split()[0]) / MIB
    return {"rss_mib": read("VmRSS"), "anon_mib": read("RssAnon"), "file_mib": read("RssFile")}


def cpu_s(pid):
    """User and system time of a process, all its threads."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def machine_s():
    """CPU seconds that the whole machine has used; time stolen by its host counts as used by others."""
    with open("/proc/stat", encoding="utf-8") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) * TICK_S


class Worker:
    def __init__(self, command, core, log):
        with open(log, "wb") as errors:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                env=os.environ | ONE_THREAD | {"TOKENIZERS_PARALLELISM": "false"})
        self.log = log

    @property
    def pid(self):
        return self.process.pid

    def ask(self, mode, warm=0, path="-"):
        self.process.stdin.write(f"{mode} {warm} {path}\n".encode())
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[3:]} ended: see {self.log}")
        return json.loads(line)

    def time(self, mode, warm, path):
        """The answer, with what share of a core it had and how many cores others used meanwhile."""
        begin, own, whole = time.perf_counter(), cpu_s(self.pid), machine_s()
        answer = self.ask(mode, warm, path)
        wall, own = time.perf_counter() - begin, cpu_s(self.pid) - own
        answer["foreign_cores"] = max(0.0, (machine_s() - whole - own) / wall)
        answer["own_cores"] = own / wall
        return answer

    def memory(self):
        return memory(self.pid)

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
