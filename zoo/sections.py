"""The sections of a recipe, each with its keys, their types and what they may be."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from zoo import word_budget

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
    def longest(self) -> int:
        """Tokens that may be read at once: as far apart as a row and its memory were in training."""
        return self.context + self.memory

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

    @property
    def one_document(self) -> bool:
        """Whether a row is one document to all who read it, with padding behind it."""
        return self.rows in ("document", "pairs") or (self.rows == "packed" and self.across_documents)


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
    """One training run; nothing here depends on the machine but `precision`, `compile` and `micro_rows`."""

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
    reduce: Literal["float32", "bfloat16"] = "float32"  # what gradients are while replicas add them up
    compile: Literal["auto", "parts", "whole"] = "auto"  # by XLA: parts of an update, or all of it in one
    micro_rows: Count | None = None  # rows that pass through the network at once; None, or auto = fitted to the machine
    # Blocks are run again on the way back, of which only their inputs are kept; matmuls: under JAX their products too.
    remat: bool | Literal["matmuls"] = False
    evaluate_every: Count | None = None  # updates; the end is always evaluated
    evaluate_tokens: Count | None = None  # of the validation split; None = all of it
    checkpoint_every: Count | None = None  # updates; the last one always has a checkpoint
    checkpoint_minutes: Positive = 30.0
    keep_checkpoints: Count = 3  # the newest; beside them the one with the lowest validation loss is always kept
    average_checkpoints: Count | None = None  # the run ends with the mean of the weights of its newest ones
    keep_every: Count | None = None  # updates; the checkpoints at its multiples are written, and kept for good
    # Checkpoints for good after so many words of text, as 1M or 100K; in order, each once. A list in YAML.
    save_at_words: Annotated[tuple[Count, ...], Field(strict=False)] = ()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("micro_rows", mode="before")
    @classmethod
    def _fitted(cls, given: Any) -> Any:
        return None if given == "auto" else given

    @field_validator("save_at_words", mode="before")
    @classmethod
    def _in_words(cls, given: Any) -> Any:
        return [word_budget.read(each) for each in given] if isinstance(given, list | tuple) else given

    @field_validator("save_at_words")
    @classmethod
    def _in_order(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted({*given}))

    @model_validator(mode="after")
    def _kept(self) -> "Train":
        if self.average_checkpoints is not None and self.average_checkpoints > self.keep_checkpoints:
            raise ValueError(
                f"average_checkpoints {self.average_checkpoints} is above keep_checkpoints {self.keep_checkpoints}"
            )
        return self


class Mesh(Section):
    """How the devices of the JAX engine share the work (zoo/train/layout.py); they multiply to all there are."""

    data: Count | None = None  # share rows, and hold equal weights; None = all devices that the others leave
    fsdp: Count = 1  # share rows, and every weight, gradient and slot too
    model: Count = 1  # share heads, inner width and vocabulary


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
