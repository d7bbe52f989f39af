"""Attention of rows that are one document each, by JAX's fused function: who sees whom follows from the row's length.

On a GPU it is cuDNN's flash attention (Dao et al. 2022), which never has the scores in memory.

Shapes: B rows, T tokens, H heads, d width of a head.
"""

from typing import Any

from keras import ops

FUSED = ("bfloat16", "float16")  # what cuDNN has it for


def flash_attention(q_BHTd: Any, k_BHTd: Any, v_BHTd: Any, length_B: Any, causal: bool) -> Any:
    """[B, H, T, d]: values mixed by the softmax of q k, which are scaled already.

    length: tokens of a row, behind which is padding that nobody sees. Unlike `reference_attend`, padding itself sees
    something, and not zeros: what becomes of it is read by nobody.
    """
    import jax

    q, k, v = (x.swapaxes(1, 2) for x in (q_BHTd, k_BHTd, v_BHTd))
    gpu = jax.default_backend() == "gpu" and q_BHTd.dtype in FUSED and q_BHTd.shape[-1] % 8 == 0
    seen: dict[str, Any] = {"is_causal": True}  # padding is behind all that count
    if not causal:
        length_B = ops.maximum(length_B, 1)  # a softmax over nothing is not a number
        seen = {"query_seq_lengths": ops.full_like(length_B, q.shape[1]), "key_value_seq_lengths": length_B}
    mixed = jax.nn.dot_product_attention(q, k, v, scale=1.0, implementation="cudnn" if gpu else "xla", **seen)
    return mixed.swapaxes(1, 2)
