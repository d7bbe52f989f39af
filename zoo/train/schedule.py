"""The learning rate of an update: plain arithmetic on the host."""

import math

from zoo.sections import Train


def learning_rate(train: Train, update: int) -> float:
    """The learning rate of update 0, 1, ...; warm-up is linear and reaches the peak at `warmup_updates`.

    The first update of a warm-up takes 1/warmup of the peak, so that none is wasted at zero (BERT's release starts at
    0). linear and cosine fall from the end of the warm-up to `final_share` of the peak at `updates`; inverse_sqrt falls
    with the root of the update and meets the peak at the warm-up's end (Vaswani et al. 2017, section 5.3, with the peak
    written out); wsd stays at the peak and falls linearly over the last `decay_share` of the updates.
    """
    peak, warmup = train.learning_rate, train.warmup_updates
    if update < warmup:
        return peak * (update + 1) / warmup
    done = min(1.0, (update - warmup) / max(1, train.updates - warmup))
    if train.schedule == "constant":
        share = 1.0
    elif train.schedule == "linear":
        share = 1.0 - done * (1.0 - train.final_share)
    elif train.schedule == "cosine":
        share = train.final_share + (1.0 - train.final_share) * 0.5 * (1.0 + math.cos(math.pi * done))
    elif train.schedule == "inverse_sqrt":
        share = math.sqrt(max(1, warmup) / (update + 1))
    else:
        falling = max(1.0, train.decay_share * train.updates)
        left = (train.updates - update) / falling
        share = min(1.0, train.final_share + (1.0 - train.final_share) * left)
    return peak * share
