"""Runs in the peers' environment: a character-level GPT on tiny Shakespeare, trained as nanoGPT's script does on a CPU.

    .venv-peers/bin/python scripts/peer_char.py INPUT.txt

The work of `train.py config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1
--block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000
--dropout=0.0`: the model without biases, AdamW that decays matrices, random windows of a file of ids, 20 batches of
either split every 250 updates, the best weights saved. See bench_char.py, which asks for it. Prints one line of JSON.
"""

import time

BEGIN = time.perf_counter()  # importing PyTorch is part of the command

# ruff: noqa: E402
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

LAYERS, HEADS, WIDTH, CONTEXT, ROWS, UPDATES = 4, 4, 128, 64, 12, 2000
PEAK, LAST, WARMUP, BETAS, DECAY, CLIP = 1e-3, 1e-4, 100, (0.9, 0.99), 0.1, 1.0
EVALUATE_EVERY, BATCHES = 250, 20


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.output = nn.Linear(WIDTH, WIDTH, bias=False)
        self.inner, self.outer = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        rows, tokens, _ = x.shape
        split = (part.view(rows, tokens, HEADS, -1).transpose(1, 2) for part in self.qkv(self.norms[0](x)).chunk(3, -1))
        seen = functional.scaled_dot_product_attention(*split, is_causal=True)
        x = x + self.output(seen.transpose(1, 2).reshape(rows, tokens, WIDTH))
        return x + self.outer(functional.gelu(self.inner(self.norms[1](x))))


class Characters(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                residual = name.endswith(("output.weight", "outer.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * LAYERS) if residual else 0.02)

    def forward(self, ids, targets):
        x = self.token(ids) + self.position(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.token.weight)
        return functional.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def rate(update: int) -> float:
    if update < WARMUP:
        return PEAK * update / WARMUP
    return LAST + (PEAK - LAST) * 0.5 * (1 + math.cos(math.pi * (update - WARMUP) / (UPDATES - WARMUP)))


def main() -> None:
    text = Path(sys.argv[1]).read_text()
    numbers = {character: number for number, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([numbers[character] for character in text])
    splits = ids[: int(0.9 * len(ids))], ids[int(0.9 * len(ids)) :]
    torch.manual_seed(1337)
    model = Characters(len(numbers))
    parts = [[w for w in model.parameters() if (w.dim() > 1) is decayed] for decayed in (True, False)]
    groups = [{"params": part, "weight_decay": decay} for part, decay in zip(parts, (DECAY, 0.0), strict=True)]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=BETAS)

    def batch(of):
        at = torch.randint(len(of) - CONTEXT, (ROWS,))
        return (torch.stack([of[i + late : i + late + CONTEXT] for i in at]) for late in (0, 1))

    def estimated(of) -> float:
        with torch.no_grad():
            return float(np.mean([model(*batch(of)).item() for _ in range(BATCHES)]))

    best, saved = math.inf, tempfile.TemporaryFile()  # noqa: SIM115 -- for as long as the process lives
    for update in range(UPDATES + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate(update)
        if update % EVALUATE_EVERY == 0:
            train, valid = map(estimated, splits)
            print(f"update {update}: train {train:.4f}, valid {valid:.4f}", file=sys.stderr, flush=True)
            if valid < best and update:
                best = valid
                saved.seek(0)
                torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, saved)
        loss = model(*batch(splits[0]))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # which is logged there
    seconds = time.perf_counter() - BEGIN
    rows = [splits[1][i : i + CONTEXT + 1] for i in range(0, len(splits[1]) - CONTEXT, CONTEXT)]
    with torch.no_grad():
        whole = torch.stack(rows)
        print(json.dumps({"seconds": seconds, "loss": model(whole[:, :-1], whole[:, 1:]).item()}))


if __name__ == "__main__":
    main()
