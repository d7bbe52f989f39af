"""What this machine has to compute in."""

from pathlib import Path


def memory_limits() -> dict[str, int]:
    """Bytes of memory by what they are: of the machine, and of the container where there is one. Empty elsewhere."""
    limits = {}
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        limits["available"] = int(lines["MemAvailable"].split()[0]) * 1024
        limits["in all"] = int(lines["MemTotal"].split()[0]) * 1024
        most = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if most != "max":
            limits["allowed to this container"] = int(most)
    except OSError:
        pass
    return limits
