"""The largest of many numbers."""

from typing import Any

from keras import ops

BLOCK = 64  # numbers, of which the largest stands for all


def reference_top_k(x_BN: Any, k: int) -> tuple[Any, Any]:
    """What `top_k` computes, in one operation."""
    found: Any = ops.top_k(x_BN, k)
    return found[0], found[1]


def top_k(x_BN: Any, k: int) -> tuple[Any, Any]:
    """The k largest of every row, largest first, and where they are: [B, k] twice; of equal ones the first come first.

    They lie in the k blocks with the largest numbers: whatever another block holds, each of these has one before it.
    So only the search for each block's largest number passes over all, which is one vectorized pass.
    """
    rows, size = int(x_BN.shape[0]), int(x_BN.shape[1])
    blocks = -(-size // BLOCK)
    if blocks <= k:
        return reference_top_k(x_BN, k)
    lowest = -float("inf")
    x_BMb: Any = ops.pad(x_BN, [(0, 0), (0, blocks * BLOCK - size)], constant_values=lowest)
    x_BMb = ops.reshape(x_BMb, (rows, blocks, BLOCK))
    _, unordered_Bk = reference_top_k(ops.max(x_BMb, axis=-1), k)
    block_Bk: Any = ops.sort(unordered_Bk, axis=-1)  # so that equal numbers stand in the order of the whole row
    row_B1: Any = ops.reshape(ops.arange(rows), (-1, 1))
    chosen_Bkb = ops.take(ops.reshape(x_BMb, (-1, BLOCK)), block_Bk + row_B1 * blocks, axis=0)
    best_Bk, at_Bk = reference_top_k(ops.reshape(chosen_Bkb, (rows, k * BLOCK)), k)
    found_Bk: Any = ops.take(ops.reshape(block_Bk, (-1,)), at_Bk // BLOCK + row_B1 * k)
    return best_Bk, found_Bk * BLOCK + at_Bk % BLOCK
