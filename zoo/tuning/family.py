"""How each family is fine-tuned, as published: what stands around a text, who is asked, with what settings."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zoo.errors import UserError
from zoo.objective import Objective
from zoo.sections import Adam


class Family(NamedTuple):
    """Special tokens are named by their roles; for one that the tokenizer lacks stands the end of a document."""

    before: tuple[str, ...]  # the roles of what stands before the first text
    between: tuple[str, ...]
    after: tuple[str, ...]
    asked: int  # the place of the token whose state is asked for the class of a text
    pooled: bool  # through a dense layer with tanh
    learning_rate: float
    warmup: float  # share of the updates
    adam: Adam
    language: float = 0.0  # how much the loss of the next token counts beside the labels'
    rows: int = 32  # of an update
    epochs: int = 3
    dropout: float = 0.1  # everywhere, and before the labels
    clip_norm: float = 1.0

    def framed(self, parts: Sequence[np.ndarray], special: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of one or two texts with all that stands around them, and their segments; both [tokens] int32."""
        last = len(parts) - 1
        pieces = [(0, self._ids(self.before, special)), (0, parts[0])]
        if last:
            pieces += [(0, self._ids(self.between, special)), (1, parts[1])]
        pieces += [(last, self._ids(self.after[:1], special)), (2, self._ids(self.after[1:], special))]
        segment = np.repeat([number for number, _ in pieces], [len(ids) for _, ids in pieces])
        return np.concatenate([ids for _, ids in pieces]).astype(np.int32), segment.astype(np.int32)

    def around(self, parts: int) -> int:
        """How many tokens stand around so many texts."""
        return len(self.before) + len(self.after) + (parts - 1) * len(self.between)

    def _ids(self, roles: Sequence[str], special: Mapping[str, int]) -> np.ndarray:
        found = [special.get(role, special.get("eod")) for role in roles]
        if None in found:
            raise UserError(f"fine-tuning needs the special tokens {' and '.join(roles)}, or eod in their place")
        return np.array(found, np.int32)


# Devlin et al. 2019, section 4.1 and appendix A.3: 32 rows, 3 epochs, and the best of these learning rates by the
# validation split: 5e-5, 4e-5, 3e-5, 2e-5. Unlike the release Adam corrects its bias, without which fine-tuning on
# little data often fails (Mosbach et al. 2021).
BERT = Family(
    before=("cls",),
    between=("sep",),
    after=("sep",),
    asked=0,
    pooled=True,
    learning_rate=5e-5,
    warmup=0.1,
    adam=Adam(epsilon=1e-6, weight_decay=0.01),
)
# Yang et al. 2019, and the release: A <sep> B <sep> <cls>, of which the last is of segment 2 (classifier_utils.py);
# 2e-5 as for IMDB, a warm-up of 120 of 1,200 updates as for STS-B (README), no weight decay (run_classifier.py).
XLNET = BERT._replace(
    before=(), after=("sep", "cls"), asked=-1, learning_rate=2e-5, adam=Adam(epsilon=1e-6, weight_decay=0.0)
)
# Radford et al. 2018, sections 3.2 to 4.1, and train.py of the release. There the tokens that begin, part and end a row
# are new ones; here they are special tokens that the tokenizer has, which a text does not hold either.
GPT = Family(
    before=("eod",),
    between=("sep",),
    after=("cls",),
    asked=-1,
    pooled=False,
    learning_rate=6.25e-5,
    warmup=0.002,
    adam=Adam(epsilon=1e-8, weight_decay=0.01),
    language=0.5,
)


def family_of(objective: Objective) -> Family:
    """By what the objective says of itself: who sees whom, and whether a query stream predicts."""
    if objective.visibility == "causal":
        return GPT
    return XLNET if objective.blind else BERT
