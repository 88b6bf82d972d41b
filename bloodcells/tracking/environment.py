"""What an experiment was computed with: command, versions, processor, device, threads."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch

from bloodcells.errors import without_passwords
from bloodcells.tracking.provenance import Code

PACKAGES = (
    "torch",
    "torchvision",
    "medmnist",
    "numpy",
    "scikit-learn",
    "scipy",
    "scikit-image",
    "pillow",
    "matplotlib",
    "safetensors",
    "optuna",
    "cleanlab",  # whose list of suspect labels may change
)


def environment(device: str, code: Code) -> dict:
    """The `environment` entry of `metrics.json`: what the results were computed with."""
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "command": command(sys.argv),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": processor(),
        "instructions": instructions(),
        "device": gpu or device,
        "threads": torch.get_num_threads(),
        "git_commit": f"{code.commit}+" if code.commit and code.edited else code.commit,
    }


def command(arguments: Sequence[str]) -> str:
    """The command line, without passwords; of one machine's own paths only the last name."""
    words = []
    for argument in map(without_passwords, arguments):
        if argument.startswith("--") and "=" in argument:
            flag, value = argument.split("=", 1)
            words.append(f"{flag}={without_folders(value)}")
        else:
            words.append(without_folders(argument))
    return shlex.join(["python", Path(words[0]).name, *words[1:]])


def without_folders(value: str) -> str:
    """The last name of an absolute path, also of one in a database's address; else the value."""
    scheme, separator, place = value.rpartition("://")
    return scheme + separator + (Path(place).name if Path(place).is_absolute() else place)


def instructions() -> str:
    """The widest instructions of the processor that torch uses, which decide its speed."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    if torch.cpu._is_avx512_bf16_supported():
        return "AVX-512 with bfloat16"
    return torch.backends.cpu.get_cpu_capability()


def processor() -> str:
    """The processor's model name, or else Python's description of it."""
    if sys.platform == "darwin":  # of which Python says only "arm"
        with suppress(OSError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "arm"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
