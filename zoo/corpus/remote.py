"""Files behind an address, such as s3://bucket/books: found through fsspec, and used as paths are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard, cast

from zoo.disk import write_whole
from zoo.errors import UserError

# What a store says of a file that changes with its content, the surest first.
MARKS = ("sha256", "ETag", "etag", "md5Hash", "blob_id", "mtime", "created", "LastModified")


def is_address(place: str | Path) -> bool:
    """Whether a place is behind an address; paths of this machine have no two slashes after a colon."""
    return "://" in str(place)


def is_data_set(corpus: object) -> TypeGuard[str]:
    """Whether a corpus is a data set of the Hugging Face Hub, hf:NAME[:CONFIG]."""
    return isinstance(corpus, str) and corpus.startswith("hf:") and not is_address(corpus)


def path_of(place: str | Path) -> Path:
    """A path of this machine, or one behind an address, with the same methods.

    Raises:
        UserError: nothing here can read this kind of address.
    """
    if not is_address(place):
        return Path(place).expanduser()
    from upath import UPath

    with reachable(str(place)):
        path = UPath(place)
        path.fs  # noqa: B018 -- made at the first use, which needs the library of the store
        return cast(Path, path)


def below(address: str, *, pattern: bool) -> list[Path]:
    """All files below an address, or those a glob stands for; hidden ones aside."""
    import fsspec

    with reachable(address):
        store, top = fsspec.url_to_fs(address)
        names = store.glob(top) if pattern else store.find(top)
        shown = [name for name in names if "/." not in str(name).removeprefix(top)]
        return [path_of(store.unstrip_protocol(name)) for name in shown]


def is_there(file: Path) -> bool:
    """Whether a file is there now, whatever was known of its folder before."""
    if is_address(file):
        cast(Any, file).fs.invalidate_cache()
    return file.is_file()


def mark(path: Path) -> str | None:
    """What the store of a remote file says that changes with its content, or None."""
    info: dict[str, Any] = cast(Any, path).fs.info(cast(Any, path).path)
    return next((f"{key} {info[key]}" for key in MARKS if info.get(key)), None)


def sizes(folder: Path) -> dict[str, int]:
    """The bytes of every file below a folder, by its path from there."""
    if not is_address(folder):
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    with reachable(str(folder)):
        remote = cast(Any, folder)
        found: dict[str, Any] = remote.fs.find(remote.path, detail=True)
        top = remote.fs._strip_protocol(str(folder)).rstrip("/") + "/"
        return {str(name).removeprefix(top): info["size"] for name, info in found.items()}


def write(path: Path, text: str) -> None:
    """Writes a file: whoever reads it finds all of it or none. Stores behind addresses work that way by themselves."""
    if is_address(path):
        with reachable(str(path)):
            _make_room(path).write_text(text, encoding="utf-8")
    else:
        write_whole(path, text)


def put(folder: Path, remote: Path, last: str) -> None:
    """Copies the files of a folder to a remote one, in the end the one that says that the others are there."""
    with reachable(str(remote)):
        for file in sorted(folder.iterdir(), key=lambda file: file.name == last):
            target = _make_room(remote / file.name)
            target.fs.put_file(str(file), target.path)


def _make_room(path: Path) -> Any:
    """The path, when there is a folder for it, where the store has some."""
    remote = cast(Any, path)
    remote.fs.makedirs(remote.fs._parent(remote.path), exist_ok=True)
    return remote


@contextmanager
def reachable(address: str) -> Iterator[None]:
    """Around what asks a store: whatever fails there becomes a UserError that names the address.

    The libraries of the stores have errors of their own, some not even an OSError.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{address}: cannot be reached ({told})") from error
