"""What a measurement was taken on: the device, the versions, and the peak of its memory."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import torch

import modelmeter
from modelmeter.schema.measurement import MeasuredDevice

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""What Linux takes as the order to begin a process's peak anew (``man 5 proc``)."""


def measured_device(device: str) -> MeasuredDevice:
    """The CPU, or the current CUDA device."""
    threads = torch.get_num_threads()
    if device != "cuda":
        return MeasuredDevice(_cpu_name(), "cpu", _memory_bytes(), threads)
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return MeasuredDevice(
        found.name,
        "gpu",
        int(found.total_memory),
        threads,
        driver=_driver(),
        cuda=torch.version.cuda,
        compute_capability=f"{found.major}.{found.minor}",
    )


def versions() -> dict[str, str]:
    """Versions of what took part; libraries that were not loaded took none."""
    found = {
        "modelmeter": modelmeter.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    for name in ("torch", "transformers", "tokenizers", "PIL"):
        if name in sys.modules:
            found["pillow" if name == "PIL" else name] = str(sys.modules[name].__version__)
    return found


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "cpu"


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


class PeakMemory:
    """The largest memory in use between ``begin`` and ``end``, as exactly as the device tells."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.meaning = ""
        self.begin()

    def begin(self) -> None:
        """Forget what was before, where that can be done."""
        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.meaning = "memory that torch had allocated on the GPU during the runs, weights included"
            return
        try:
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
            self.meaning = "resident memory of the process during the runs, weights and libraries included"
        except OSError:
            self.meaning = "resident memory of the process since it began, weights and libraries included"

    def end(self) -> int | None:
        """Bytes."""
        if self._device == "cuda":
            return int(torch.cuda.max_memory_allocated())
        try:
            for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        except (OSError, ValueError):
            pass
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024
