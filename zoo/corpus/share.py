"""A corpus tokenized in shares, each anywhere and at any time, and joined when all are there.

The shares go to one folder, here or behind an address: tokenizer.json, part-00001-of-00008/ and so on. The text is read
from where it lies, file by file, and no machine has more of it than the tokens of its share.
"""

import re
import shutil
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from zoo import disk
from zoo.corpus.cache import locked, writing
from zoo.corpus.files import fingerprint_of, readable
from zoo.corpus.merge import join, read_part
from zoo.corpus.prepare import key_of, tokenizer_for, write_part
from zoo.corpus.prepared import FETCHED, TOKENIZER
from zoo.corpus.remote import is_address, is_data_set, is_there, path_of, put, sizes, write
from zoo.corpus.shards import PART
from zoo.corpus.sources import files_of, from_files, rules
from zoo.corpus.tokenizer import Tokenizer, load
from zoo.errors import UserError, some
from zoo.progress import progress, say
from zoo.schema import Recipe
from zoo.waiting import WAIT, longest_wait, until

NAME = re.compile(r"part-\d{5,}-of-\d{5,}")
SAMPLE = 2e9  # bytes of the files that a tokenizer is trained on, spread evenly over the corpus
READERS = 16  # parts that are checked at once


def prepare_share(recipe: Recipe, place: str, out: str, number: int, of: int, home: Path) -> str:
    """Tokenizes share `number` (from 1) of `of` shares of about as many bytes; returns what became of it.

    Share 1 trains the tokenizer where the recipe names none, and the others wait for it. The same share of the same
    corpus is made once: a second call finds it.

    Raises:
        UserError: the corpus has no files to share, the folder holds shares of something else, or cannot be written.
    """
    if recipe.data.rows == "parallel" or is_data_set(place):
        what = "pairs of texts" if recipe.data.rows == "parallel" else f"{place} is one stream (hf:// has files) and"
        raise UserError(f"{what} cannot be shared out; zoo pretrain reads it as it is")
    folder = path_of(out)
    files = files_of(place)
    source = from_files(f"{place} ({number}/{of})", files[_shares(files, of)[number - 1]], recipe.data)
    with writing(home if is_address(folder) else folder):
        if not is_address(folder):
            folder.mkdir(parents=True, exist_ok=True)
        tokenizer = _tokenizer(recipe, place, files, folder, number, home)
        target, key = folder / f"part-{number:05}-of-{of:05}", key_of(tokenizer, source.fingerprint)
        about = {"tokenizer": tokenizer.identity, "rules": rules(recipe.data)}
        about["identities"] = [identity.hex() for identity in source.identities]
        with nullcontext() if is_address(folder) else locked(folder / f".{target.name}.lock", f"making {target}"):
            if _is_made(target, key):
                return f"{target} is there already"
            with TemporaryDirectory(dir=home) if is_address(folder) else disk.whole_folder(target) as new:
                write_part(source, tokenizer, Path(new), about)
                disk.write_manifest(Path(new))
                if is_address(folder):
                    put(Path(new), target, disk.MANIFEST)
    return f"{target} is made"


def _shares(files: Sequence[Path], of: int) -> list[slice]:
    """Neighbouring files in shares of about as many bytes, at least one file each."""
    sizes = [file.stat().st_size for file in files]
    if of > len(sizes):
        raise UserError(f"{of} shares are too many for {len(sizes)} files; at most as many shares as files")
    middles, total = np.cumsum(sizes) - np.array(sizes) / 2, sum(sizes)
    cuts = [0]
    for number in range(1, of):
        cut = int(np.searchsorted(middles, total * number / of))
        cuts.append(min(max(cut, cuts[-1] + 1), len(sizes) - of + number))
    return [slice(*ends) for ends in pairwise([*cuts, len(sizes)])]


def _tokenizer(recipe: Recipe, place: str, files: list[Path], folder: Path, number: int, home: Path) -> Tokenizer:
    """The tokenizer of all shares, which lies in their folder; share 1 puts it there."""
    kept, spec = folder / TOKENIZER, recipe.tokenizer
    if number == 1 and not is_there(kept):
        stride = max(1, round(sum(file.stat().st_size for file in files) / SAMPLE))
        write(kept, tokenizer_for(from_files(place, files[::stride], recipe.data), spec, home).json())
    elif not spec.file:
        wait = longest_wait()
        for _ in until(wait, lambda: f"still waiting for share 1, which makes {kept}"):
            if is_there(kept):
                break
            time.sleep(0.2)
        else:
            raise UserError(f"share 1 did not make {kept} in {wait:.0f} s; {WAIT} says how long to wait")
    return load(spec.file or str(kept), spec)


def _is_made(target: Path, key: str) -> bool:
    """Whether a share is made; what a killed process or an accident left of it is taken away.

    Raises:
        UserError: it is there, of another text or tokenizer.
    """
    found = sizes(target)
    if not found:
        return False
    try:
        meta = read_part(target)
        other = meta["key"] != key
        whole = disk.MANIFEST in found and all(found.get(name) == size for name, size in meta["files"].items())
    except (OSError, ValueError, LookupError, TypeError):
        other = whole = False
    if whole and other:
        raise UserError(f"{target} was made of another text or with another tokenizer; give another --out")
    if not whole:
        say(f"{target} is not whole; it is made again")
        if not is_address(target):
            shutil.rmtree(target)
    return whole


def merge(out: str, home: Path) -> dict[str, Any]:
    """Joins all shares of a folder to a corpus, when all are there and sound; returns its corpus.json.

    Raises:
        UserError: which shares are missing, damaged or of another corpus.
    """
    folder = path_of(out)
    with writing(home if is_address(folder) else folder), readable(out):
        names = _all_parts(out, sizes(folder))
        metas = _checked(folder, names)
        expected = disk.sha256(folder / TOKENIZER), metas[names[0]]["rules"]
        odd = [name for name, meta in metas.items() if (meta["tokenizer"], meta["rules"]) != expected]
        if odd:
            raise UserError(f"{out}: {some(odd)}: made with another tokenizer or other keys of data than the rest")
        identities = (bytes.fromhex(identity) for meta in metas.values() for identity in meta["identities"])
        fingerprint = fingerprint_of(identities, *expected[1].values())
        about = {"fingerprint": fingerprint, "tokenizer": expected[0], "rules": expected[1]}
        return join(folder, metas, home / FETCHED, about)


def _all_parts(out: str, found: Iterable[str]) -> list[str]:
    """The names of all shares, in order."""
    names = sorted({name for file in found if NAME.fullmatch(name := file.partition("/")[0])})
    if not names:
        raise UserError(f"{out} holds no share of a corpus; zoo data prepare makes them")
    counts = {int(name.rpartition("-")[2]) for name in names}
    if len(counts) > 1:
        raise UserError(f"{out} holds shares of {' and of '.join(map(str, sorted(counts)))}; keep those of one kind")
    of = counts.pop()
    missing = sorted(set(range(1, of + 1)) - {int(name.split("-")[1]) for name in names})
    if missing:
        shares = [f"{number}/{of}" for number in missing]
        raise UserError(f"{out}: {some(shares)} missing; zoo data prepare --shard {shares[0]} makes one of them")
    return names


def _checked(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The part.json of every share, by its name; every byte of them is compared with what was written.

    Raises:
        UserError: shares that are damaged.
    """

    def check(name: str) -> str | None:
        return disk.damage(folder / name, (PART,))

    wrong = {}
    with ThreadPoolExecutor(READERS) as pool, progress("checking the shares", len(names), "shares") as advance:
        for name, found in zip(names, pool.map(check, names), strict=True):
            advance(1)
            if found:
                wrong[name] = found
    if wrong:
        name, found = next(iter(wrong.items()))
        raise UserError(f"{folder}: {some(list(wrong))} damaged ({name}: {found}); delete and prepare again")
    return {name: read_part(folder / name) for name in names}
