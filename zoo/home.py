"""Where the zoo keeps what it makes once and reads again: tokenizers and tokenized corpora."""

import os
from pathlib import Path
from tempfile import TemporaryFile

from zoo.errors import UserError


def home() -> Path:
    """ZOO_HOME, else the zoo folder of the user's cache; made when missing.

    Raises UserError where it cannot be written.
    """
    chosen = os.environ.get("ZOO_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "zoo"
    folder = Path(os.path.expanduser(chosen)).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()  # rights alone do not tell: the file system may be read-only
    except OSError as error:
        raise UserError(
            f"ZOO_HOME {folder} cannot be written ({error.strerror}); set ZOO_HOME to a folder that can be"
        ) from None
    return folder
