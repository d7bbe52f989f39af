"""Models of the Hugging Face Hub: the files of one, in HF's own cache."""

import re
from collections.abc import Callable, Collection
from pathlib import Path

from zoo.corpus.hub import REACH_SECONDS, http_error
from zoo.errors import UserError

SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


def fetched(place: str) -> Path:
    """The folder of the model hf:ORG/NAME: its config.json, safetensors, card and tokenizer, and nothing else of it.

    Raises UserError where the Hub has no such model or cannot be reached, and HF's cache does not hold it.
    """
    from zoo.exchange import tokenizer
    from zoo.exchange.files import CARD, INDEX, WEIGHTS, no_weights, shards
    from zoo.saved import CONFIG

    def wanted(names: Collection[str]) -> list[str]:
        weights = [WEIGHTS] if WEIGHTS in names else [INDEX, *filter(SHARD.fullmatch, names)]
        if not weights[-1].endswith(".safetensors"):
            raise no_weights(place, names)
        return [*weights, CONFIG, CARD, *tokenizer.FILES]

    def whole(folder: Path) -> bool:
        names = {file.name for file in folder.iterdir()}
        has_weights = WEIGHTS in names or (INDEX in names and set(shards(folder).values()) <= names)
        return has_weights and not names.isdisjoint(tokenizer.FILES)

    return snapshot(place, CONFIG, wanted, whole)


def snapshot(
    place: str, needed: str, wanted: Callable[[Collection[str]], list[str]], whole: Callable[[Path], bool]
) -> Path:
    """A folder with files of the model hf:ORG/NAME, `needed` among them; HF's cache comes first.

    wanted: which of the model's files to fetch; whole: whether what the cache holds of it will do. Raises UserError.
    """
    from huggingface_hub import HfApi, errors, snapshot_download, try_to_load_from_cache

    name = place.removeprefix("hf:")
    try:
        kept = try_to_load_from_cache(name, needed)
    except ValueError as error:  # not a name a model can have
        raise UserError(f"{place}: {_line(error)}") from None
    cached = Path(kept).parent if isinstance(kept, str) else None
    if cached is not None and whole(cached):
        return cached
    try:
        info = HfApi().model_info(name, timeout=REACH_SECONDS)  # a download would try for half a minute
        names = {file.rfilename for file in info.siblings or ()}
        if needed not in names:
            raise UserError(f"{place}: this model has no {needed}")
        return Path(snapshot_download(name, allow_patterns=wanted(names)))
    except errors.GatedRepoError:
        raise UserError(f"{place}: this model is gated; ask for access on its page and set HF_TOKEN") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{place}: the Hub has no model {name!r}, or not for you (HF_TOKEN)") from None
    except (http_error(), OSError) as error:
        if cached is not None:
            return cached  # whoever reads it names what is missing
        raise UserError(f"{place}: the Hugging Face Hub cannot be reached ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
