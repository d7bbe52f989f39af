"""Runs in the peers' environment: the training speed of a class of Hugging Face transformers or KerasHub.

    .venv-peers/bin/python scripts/peer_training.py eager|compile|keras_hub '{"family": "gpt2", "rows": 4, ...}'

See bench_peers.py and bench_gpu.py, which ask for it. Prints one line of JSON, {} where the rows do not fit a GPU.
"""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

WARM_UPDATES, LEAST_UPDATES, LEAST_SECONDS = 2, 3, 20.0
SIDE = 2048  # of the matrices whose product is timed, as in zoo/kernels/probe.py
RATE, DECAY, CLIP = 1e-5, 0.1, 1.0


def seconds_of(update: Callable[[], object]) -> float:
    """Median seconds of an update after those that compile."""
    taken = []
    while len(taken) < WARM_UPDATES + LEAST_UPDATES or sum(taken[WARM_UPDATES:]) < LEAST_SECONDS:
        begin = time.perf_counter()
        update()
        taken.append(time.perf_counter() - begin)
        print(f"  update {len(taken)}: {taken[-1]:.2f} s", file=sys.stderr, flush=True)
    return statistics.median(taken[WARM_UPDATES:])


def timed(update: Callable[[], Any], updates: int) -> dict[str, float]:
    """Seconds of the first update, which compiles, and of each of `updates` more, which a device may do behind the
    caller: their last result is read at the end."""
    begin = time.perf_counter()
    float(update())
    found = {"first_update_seconds": time.perf_counter() - begin}
    float(update())
    begin = time.perf_counter()
    float([update() for _ in range(updates)][-1])
    return found | {"update_seconds": (time.perf_counter() - begin) / updates}


def transformers_update(given: dict[str, Any], compiled: bool) -> Callable[[], Any]:
    """An update of the class of transformers that has this family's objective; it gives a number it has changed."""
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    device = given.get("device", "cpu")
    torch.set_default_device(device)
    torch.manual_seed(0)
    B, T, P, V = (given[name] for name in ("rows", "tokens", "places", "vocabulary"))
    width, layers, heads, inner = (given[name] for name in ("width", "layers", "heads", "inner"))
    token = torch.randint(5, V, (B, T))
    own: dict[str, Any]
    batch: dict[str, Any]
    model: Any
    if given["family"] == "gpt2":
        own = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_inner": inner, "n_positions": T}
        own |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), given["dropout"])
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=V, **own))
        batch = {"input_ids": token, "labels": token}
    elif given["family"] == "bert":
        own = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
        own |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), given["dropout"])
        model = transformers.BertForPreTraining(
            transformers.BertConfig(vocab_size=V, intermediate_size=inner, hidden_act="gelu_new", **own)
        )
        chosen = torch.rand(B, T).argsort(dim=1) < P
        batch = {"input_ids": torch.where(chosen, 4, token), "labels": torch.where(chosen, token, -100)}
        batch["next_sentence_label"] = torch.randint(2, (B,))
    elif given["family"] == "xlnet":
        own = {"d_model": width, "n_layer": layers, "n_head": heads, "d_inner": inner, "dropout": given["dropout"]}
        model = transformers.XLNetLMHeadModel(transformers.XLNetConfig(vocab_size=V, ff_activation="gelu_new", **own))
        order = torch.rand(B, T).argsort(dim=1)
        at, rank = order[:, :P], torch.full((B, T), -1)
        rank.scatter_(1, at, torch.arange(P).expand(B, P))
        hidden = (rank[:, None, :] >= rank[:, :, None]) & (rank[:, None, :] >= 0)
        mapping = torch.nn.functional.one_hot(at, T).float()
        batch = {"input_ids": token, "perm_mask": hidden.float(), "target_mapping": mapping, "use_mems": False}
        batch["labels"] = token.gather(1, at)
    else:
        own = {"layers": layers, "attention_heads": heads, "ffn_dim": inner}
        sides: Any = {f"{side}_{what}": value for side in ("encoder", "decoder") for what, value in own.items()}
        model = transformers.MarianMTModel(
            transformers.MarianConfig(
                vocab_size=V,
                d_model=width,
                dropout=given["dropout"],
                attention_dropout=0.0,
                activation_function="relu",
                scale_embedding=True,
                max_position_embeddings=T,
                pad_token_id=0,
                eos_token_id=1,
                decoder_start_token_id=0,
                **sides,
            )
        )
        batch = {"input_ids": token, "labels": torch.randint(5, V, (B, T))}
    print(f"  {sum(weight.numel() for weight in model.parameters()):,} parameters", file=sys.stderr)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    forward = torch.compile(model) if compiled else model
    last = list(model.parameters())[-1]

    def update() -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=given["precision"] == "bfloat16"):
            loss = forward(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return last.detach().flatten()[0]

    return update


def keras_hub_update(given: dict[str, Any]) -> Callable[[], object]:
    """An update of KerasHub's task model, by the step that `fit` runs."""
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1"}
    import keras  # pyright: ignore[reportMissingImports]
    import keras_hub  # pyright: ignore[reportMissingImports]
    import numpy as np

    if given["precision"] == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    draws = np.random.default_rng(0)
    B, T, P, V = (given[name] for name in ("rows", "tokens", "places", "vocabulary"))
    shape = {"vocabulary_size": V, "num_layers": given["layers"], "num_heads": given["heads"]}
    shape |= {"hidden_dim": given["width"], "intermediate_dim": given["inner"], "dropout": given["dropout"]}
    token = draws.integers(5, V, (B, T))
    read = {"token_ids": token, "padding_mask": np.ones((B, T), bool)}
    model: Any
    if given["family"] == "gpt2":
        backbone = keras_hub.models.GPT2Backbone(**shape, max_sequence_length=T)
        model, target = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None), token
    else:
        backbone = keras_hub.models.BertBackbone(**shape, max_sequence_length=T)
        model = keras_hub.models.BertMaskedLM(backbone=backbone, preprocessor=None)
        at = np.sort(draws.permuted(np.tile(np.arange(T), (B, 1)), axis=1)[:, :P])
        read |= {"segment_ids": np.zeros((B, T), int), "mask_positions": at}
        target = np.take_along_axis(token, at, 1)
    model.compile(
        optimizer=keras.optimizers.AdamW(RATE, weight_decay=DECAY, global_clipnorm=CLIP),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,  # XLA's matmuls are slower than TensorFlow's own on a CPU
    )
    return lambda: model.train_on_batch(read, target)


def matmul_rate(precision: str) -> float:
    """The best of some products by PyTorch, in FLOP/s."""
    import torch  # pyright: ignore[reportMissingImports]

    a, b = (torch.randn(SIDE, SIDE).to(getattr(torch, precision)) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        torch.matmul(a, b)
        best = min(best, time.perf_counter() - begin)
    return 2 * SIDE**3 / best


def on_gpu(given: dict[str, Any], compiled: bool) -> dict[str, Any]:
    """What bench_gpu.py asks for: whole updates one behind the other, and the most memory that tensors took."""
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    try:
        found: dict[str, Any] = timed(transformers_update(given, compiled), given["updates"])
    except torch.OutOfMemoryError:
        return {}
    found["tokens_per_second"] = given["rows"] * given["tokens"] / found["update_seconds"]
    on_cpu = given["device"] == "cpu"
    found["peak_bytes"] = peak_rss_bytes() if on_cpu else torch.cuda.max_memory_allocated()
    return found | {"versions": f"torch {torch.__version__}, transformers {transformers.__version__}"}


def peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    mode, given = sys.argv[1], json.loads(sys.argv[2])
    if "updates" in given:
        print(json.dumps(on_gpu(given, mode == "compile")))
        return
    update = keras_hub_update(given) if mode == "keras_hub" else transformers_update(given, mode == "compile")
    found = {"tokens_per_second": given["rows"] * given["tokens"] / seconds_of(update)}
    found["peak_rss_bytes"] = peak_rss_bytes()
    if mode != "keras_hub":
        found["matmul_flops_per_second"] = matmul_rate(given["precision"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
