"""Data sets of the Hugging Face Hub, streamed: their training split, one record a document."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from zoo.corpus.documents import Columns, Record, chosen, columns_to_read
from zoo.errors import UserError

if TYPE_CHECKING:
    from datasets import IterableDataset

REACH_SECONDS = 10.0  # for the first answer; `datasets` alone would try again and again


def open_hub(place: str, columns: Columns) -> tuple[str, "IterableDataset"]:
    """The commit and the training split of `hf:NAME[:CONFIG]`, only the columns that hold `columns`.

    Raises:
        UserError: see `open_split`; or it has no such column.
    """
    commit, stream, names = open_split(place)
    return commit, stream.select_columns(columns_to_read(place, columns, names))


def open_split(place: str, split: str = "train") -> tuple[str, "IterableDataset", list[str]]:
    """The commit and a split of `hf:NAME[:CONFIG]`, and its columns.

    With HF_HUB_OFFLINE set, only what `datasets` has prepared in its cache can be opened.

    Raises:
        UserError: the Hub cannot be reached, or it has no such data set, configuration or split.
    """
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetsError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    name, _, config = place.removeprefix("hf:").partition(":")
    if name and Path(name).exists():  # `datasets` would read it in place of the Hub's
        raise UserError(f"{place}: {name!r} also lies in this folder; for that write ./{name}, else start elsewhere")
    offline = False
    try:
        HfApi().dataset_info(name, timeout=REACH_SECONDS)
    except OfflineModeIsEnabled:
        offline = True
    except GatedRepoError:
        raise UserError(f"{place}: this data set is gated; ask for access on its page and set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise UserError(f"{place}: the Hub has no data set {name!r}, or not for you (HF_TOKEN)") from None
    except (http_error(), OSError) as error:
        raise UserError(f"{place}: the Hugging Face Hub cannot be reached ({_line(error)})") from None
    except ValueError as error:  # not a name a data set can have
        raise UserError(f"{place}: {_line(error)}") from None

    try:
        builder = load_dataset_builder(name, config or None)
        stream = cast("IterableDataset", builder.as_streaming_dataset(split=split))
        names = stream.column_names or list(next(iter(stream), {}))
    except (DatasetsError, http_error(), OSError, ValueError, RuntimeError, NotImplementedError) as error:
        why = "HF_HUB_OFFLINE is set and the cache of `datasets` does not hold it" if offline else _line(error)
        raise UserError(f"{place}: {why}") from None
    return str(builder.hash), stream, names


def configurations(place: str) -> list[str]:
    """The data sets hf:NAME:CONFIG of `hf:NAME`; one that names its configuration is the only one.

    Raises:
        UserError: the Hub cannot be reached, or has no such data set.
    """
    from datasets import get_dataset_config_names
    from datasets.exceptions import DatasetsError

    name, _, config = place.removeprefix("hf:").partition(":")
    try:
        return [f"hf:{name}:{each}" for each in ([config] if config else get_dataset_config_names(name))]
    except (DatasetsError, http_error(), OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{place}: {_line(error)}") from None


def records(place: str, columns: Columns, stream: "IterableDataset") -> Iterator[Record]:
    """Each record's values in the columns.

    Raises:
        UserError: a record has no such column; or the stream broke off and `datasets` could not take it up again.
    """
    from datasets.exceptions import DatasetsError

    number = 0
    try:
        for number, record in enumerate(stream, 1):
            yield chosen(f"{place}: record {number}", record, columns)
    except (DatasetsError, http_error(), OSError) as error:
        raise UserError(f"{place}: the stream broke off after record {number} ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def http_error() -> type[Exception]:
    """The root of what a request raises: of httpx or httpx2, as this huggingface_hub has it."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
