"""The batch that a run read first, decoded from the tokens that this machine keeps of its corpus."""

import os
from contextlib import redirect_stderr

from zoo.corpus.prepare import kept_tokens, open_texts, tokenized
from zoo.corpus.prepared import open_prepared
from zoo.corpus.tokenizer import load
from zoo.errors import UserError
from zoo.home import home
from zoo.report.batch import decoded_rows
from zoo.report.record import Record
from zoo.train import run


def example(record: Record) -> str:
    """The first row of the first update, in words. UserError where what it takes is not here any more."""
    recipe, fingerprint = record.recipe, record.environment.get("corpus_fingerprint")
    files = {section: record.folder / file for section, file in run.TOKENIZERS.items()}
    kept = {section: file for section, file in files.items() if file.is_file()}
    if fingerprint is None or "tokenizer" not in kept:
        raise UserError(f"{run.ENVIRONMENT} or {run.TOKENIZERS['tokenizer']} is missing in the run's folder")
    if recipe.data.rows != "parallel":
        tokenizer = load(kept["tokenizer"], recipe.tokenizer)
        if (tokens := kept_tokens(recipe, tokenizer, fingerprint, home())) is not None:
            return decoded_rows(recipe, tokens, tokenizer, None, 1, 1)
        if open_prepared(run.corpus_of(recipe), recipe.data) is None:
            raise UserError(f"the tokens of {recipe.data.corpus} are not kept in ZOO_HOME ({home()}) any more")
    texts = open_texts(run.corpus_of(recipe), recipe.data)
    if texts.fingerprint != fingerprint:
        raise UserError(f"{recipe.data.corpus} is not the text any more that this run read")
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):  # what a corpus tells when it is opened
        corpus = tokenized(recipe, texts, kept, home())
    return decoded_rows(recipe, corpus.train, corpus.tokenizer, corpus.source_tokenizer, 1, 1)
