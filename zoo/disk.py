"""Files that are whole or not there: written aside, forced onto the disk, renamed."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes or replaces a file: whoever reads it finds the old text or the new one."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    flush(temporary)
    os.replace(temporary, path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Forces a file, or a folder's list of names, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
