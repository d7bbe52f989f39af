"""A corpus that is tokenized already, by `zoo data prepare` and `zoo data merge`: training reads the rows it needs."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from zoo.corpus.files import readable
from zoo.corpus.remote import is_address, is_data_set, path_of
from zoo.corpus.shards import CORPUS, FORMAT, Store, damage
from zoo.corpus.sources import rules
from zoo.corpus.tokenizer import Tokenizer
from zoo.errors import UserError
from zoo.sections import Data

TOKENIZER = "tokenizer.json"  # what the corpus was tokenized with
FETCHED = "fetched"  # the folder of the home for what was read of remote parts


class Prepared(NamedTuple):
    """A folder that `zoo data merge` finished. fingerprint: of the text, as if it were read here."""

    name: str
    folder: Path
    fingerprint: str
    tokenizer: str  # a hash of its file

    def store(self, tokenizer: Tokenizer, home: Path) -> Store:
        """Its tokens. UserError where they are of another tokenizer, or something of them is missing."""
        if tokenizer.identity != self.tokenizer:
            raise UserError(f"{self.name} was tokenized with {self.folder / TOKENIZER}, and this run has another one")
        with readable(self.name):
            if wrong := damage(self.folder):
                raise UserError(f"{self.name}: {wrong}; zoo data merge says what to make again")
            return Store(self.folder, home / FETCHED)


def open_prepared(corpus: Any, data: Data) -> Prepared | None:
    """The prepared corpus in a folder or behind an address; None where it is none.

    Raises:
        UserError: it was made for another recipe.
    """
    if not isinstance(corpus, str | Path) or is_data_set(corpus) or corpus == "sotu":
        return None
    name, folder = str(corpus), path_of(corpus)
    with readable(name):
        if not (is_address(folder) or folder.is_dir()) or not (folder / CORPUS).is_file():
            return None
        meta = json.loads((folder / CORPUS).read_text(encoding="utf-8"))
    if "tokenizer" not in meta or meta.get("format") != FORMAT:
        raise UserError(f"{name} was prepared by another version of the zoo; zoo data prepare makes it again")
    asked = rules(data)
    for key, value in meta["rules"].items():
        if asked[key] != value:
            raise UserError(f"{name} was prepared with data.{key} {value}, and the recipe has {asked[key]}")
    return Prepared(name, folder, meta["fingerprint"], meta["tokenizer"])
