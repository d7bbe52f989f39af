"""What every fast path buys: beside its plain reference, forwards and backwards, in turns, in one go.

    .venv/bin/python scripts/bench_kernels.py [--precision float32] [--turns 9]

Sizes are those of one layer, or one head, of the base recipes. Both are graphs of TensorFlow; the first calls, which
compile, do not count. Writes its table into docs/performance.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from peers import machine, publish

from zoo.train.start import start_backend

Work = tuple[Callable[..., Any], Callable[..., Any], list[Any]]  # fast, reference, tensors that have gradients


def attention(dtype: str, rows: int, tokens: int, heads: int, causal: bool) -> Work:
    """One layer's attention with dropout 0.1, heads of width 64."""
    import numpy as np
    import tensorflow as tf

    from zoo.kernels.attention import Thinning, attend, reference_attend
    from zoo.kernels.random import RowNoise
    from zoo.kernels.scores import Pairs, Scored

    see = tf.constant(np.tile(np.tri(tokens, dtype=bool) | (not causal), (rows, 1, 1)))
    tensors = [tf.cast(tf.random.stateless_normal((rows, heads, tokens, 64), [0, n]), dtype) for n in range(3)]

    def by(function: Callable[..., Any]) -> Callable[..., Any]:
        def mixed(q: Any, k: Any, v: Any) -> Any:
            dropout = Thinning(RowNoise(0, 1, 0), 0.1)
            return function(Scored(q / 8, k), Pairs(see), v, dropout, causal=causal, learns=True)

        return mixed

    return by(attend), by(reference_attend), tensors


def vocabulary(dtype: str, rows: int, words: int, width: int) -> Work:
    """The loss of some tokens, from hidden states and the table of words."""
    import tensorflow as tf

    from zoo.kernels.cross_entropy import projected_cross_entropy, reference_projected

    x, table = (tf.cast(tf.random.stateless_normal((n, width), [0, n]) * 0.1, dtype) for n in (rows, words))
    target, weight = tf.range(rows, dtype=tf.int32), tf.ones(rows)

    def by(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, table: function(x, table, None, target, weight)

    return by(projected_cross_entropy), by(reference_projected), [x, table]


def gelu(dtype: str, rows: int, inner: int) -> Work:
    """The activation between two projections."""
    import tensorflow as tf

    from zoo.kernels.island import island

    def plain(x: Any) -> Any:
        return tf.cast(tf.nn.gelu(tf.cast(x, tf.float32), approximate=True), x.dtype)

    return island(plain), plain, [tf.cast(tf.random.stateless_normal((rows, inner), [0, 0]), dtype)]


def norm(rows: int, width: int) -> Work:
    """What comes before or after every sublayer, in float32 whatever the network computes in."""
    import tensorflow as tf

    from zoo.kernels.norm import layer_norm, reference_layer_norm

    def by(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x: function(x, tf.ones(width), tf.zeros(width), 1e-5)

    return by(layer_norm), by(reference_layer_norm), [tf.random.stateless_normal((rows, width), [0, 0])]


def seconds(work: Work, turns: int) -> list[float]:
    """Median seconds of the fast path and of the reference."""
    import tensorflow as tf

    fast, reference, tensors = work

    def graph(function: Callable[..., Any]) -> Callable[..., Any]:
        @tf.function(autograph=False)
        def both_ways() -> Any:
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                made = function(*tensors)
            return [made, *tape.gradient(made, tensors)]

        return both_ways

    graphs = [graph(fast), graph(reference)]
    taken: list[list[float]] = [[], []]
    for turn in range(turns + 2):
        for one, run in zip(taken, graphs, strict=True):
            begin = time.perf_counter()
            float(tf.reduce_sum(tf.cast(run()[-1], tf.float32)))  # waits for it
            if turn >= 2:
                one.append(time.perf_counter() - begin)
    return [statistics.median(one) for one in taken]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="float32")
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args()
    start_backend()
    dtype = arguments.precision
    works = {
        "attention, causal, 4 x 512, 12 heads": attention(dtype, 4, 512, 12, causal=True),
        "attention, all see all, 4 x 512, 12 heads": attention(dtype, 4, 512, 12, causal=False),
        "attention, all see all, 16 x 128, 12 heads": attention(dtype, 16, 128, 12, causal=False),
        "loss of 2,048 tokens over 50,257 words, width 768": vocabulary(dtype, 2048, 50257, 768),
        "loss of 304 tokens over 30,522 words, width 768": vocabulary(dtype, 304, 30522, 768),
        "GELU, 2,048 x 3,072": gelu(dtype, 2048, 3072),
        "layer normalisation, 2,048 x 768": norm(2048, 768),
    }
    lines = [f"{dtype} ({machine()})\n", "| | plain, ms | fast, ms | ratio |", "|---|---|---|---|"]
    for what, work in works.items():
        fast, plain = seconds(work, arguments.turns)
        lines.append(f"| {what} | {1000 * plain:,.1f} | {1000 * fast:,.1f} | {plain / fast:.2f}x |")
    publish(f"kernels {dtype}", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
