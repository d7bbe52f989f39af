"""BERT: BertForPreTraining (both tasks), BertForMaskedLM (no pooler), and the bare BertModel, without a head."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np

from zoo.exchange.family import Family, Key, Tensor, linear, norm
from zoo.schema import Recipe


class Bert(Family):
    """Source: transformers' modeling_bert.py; matrices are [outputs, inputs]."""

    model_type = "bert"
    like = "bert-base"
    vocabulary = Key("vocab_size", 30522)
    keys: ClassVar[dict[str, Key]] = {
        "width": Key("hidden_size", 768),
        "layers": Key("num_hidden_layers", 12),
        "heads": Key("num_attention_heads", 12),
        "context": Key("max_position_embeddings", 512),
        "segments": Key("type_vocab_size", 2),
        "inner": Key("intermediate_size", 3072),
        "activation": Key("hidden_act", "gelu"),
        "norm_epsilon": Key("layer_norm_eps", 1e-12),
        "init_std": Key("initializer_range", 0.02),
        "dropout": Key("hidden_dropout_prob", 0.1),
        "attention_dropout": Key("attention_probs_dropout_prob", 0.1),
    }
    computes: ClassVar[dict[str, Collection[Any]]] = {
        "objective.name": ("masked",),
        "model.norm": ("post",),
        "model.positions": ("learned",),
        "model.segments": range(1, 2**31),
        "model.embedding_scale": (False,),
        "model.embedding_norm": (True,),
        "model.attention_bias": (True,),
        "model.head_transform": (True,),
        "model.head_bias": (True,),
    }
    unless: ClassVar[dict[str, Any]] = {"position_embedding_type": "absolute"}
    tied: ClassVar[dict[str, str]] = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    frame = (("cls", 0), ("A", 0), ("sep", 0), ("B", 1), ("sep", 1))

    def architecture(self, recipe: Recipe, absent: frozenset[str]) -> str:
        if absent:
            return "BertModel"
        return "BertForPreTraining" if recipe.objective.get("next_sentence") else "BertForMaskedLM"

    def known(self, name: str) -> str:
        """As TensorFlow's checkpoints named norms, and without the prefix that the bare encoder lacks."""
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        return f"bert.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name

    def written(self, name: str, absent: frozenset[str]) -> str:
        return name.removeprefix("bert.") if absent else name

    def idle(self, names: Collection[str]) -> set[str]:
        """Numbered positions, and a pooler that nothing is classified with: masked tokens do not pass through it."""
        found = {name for name in names if name == "bert.embeddings.position_ids"}
        if _has_head(names) and "cls.seq_relationship.weight" not in names:
            found |= {name for name in names if name.startswith("bert.pooler.")}
        return found

    def objective(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        named = "cls.seq_relationship.weight" if _has_head(arrays) else "bert.pooler.dense.weight"
        return {"next_sentence": named in arrays}

    def absent(self, arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        return () if _has_head(arrays) else ("head.", "objective.classifier.")

    def tensors(self, recipe: Recipe) -> list[Tensor]:
        model, width, size = recipe.model, recipe.model.width, recipe.tokenizer.size

        def dense(theirs: str, ours: str, inputs: int = width, outputs: int = width) -> list[Tensor]:
            return linear(theirs, (ours,), inputs, outputs, transposed=True)

        embeddings = {"word": ("token", size), "position": ("position", model.context)}
        embeddings["token_type"] = ("segment", model.segments)
        found = [
            Tensor(f"bert.embeddings.{theirs}_embeddings.weight", (rows, width), (f"embed.{ours}.table",))
            for theirs, (ours, rows) in embeddings.items()
        ]
        found += norm("bert.embeddings.LayerNorm", "embed.norm", width)
        for n in range(model.layers):
            theirs, ours = f"bert.encoder.layer.{n}", f"blocks.{n}"
            for name in ("query", "key", "value"):
                found += dense(f"{theirs}.attention.self.{name}", f"{ours}.attend.{name[0]}")
            found += dense(f"{theirs}.attention.output.dense", f"{ours}.attend.out")
            found += norm(f"{theirs}.attention.output.LayerNorm", f"{ours}.attend_norm", width)
            found += dense(f"{theirs}.intermediate.dense", f"{ours}.inner.up", outputs=model.inner_width)
            found += dense(f"{theirs}.output.dense", f"{ours}.inner.down", inputs=model.inner_width)
            found += norm(f"{theirs}.output.LayerNorm", f"{ours}.inner_norm", width)
        found.append(Tensor("cls.predictions.bias", (size,), ("head.bias",)))
        found += dense("cls.predictions.transform.dense", "head.transform")
        found += norm("cls.predictions.transform.LayerNorm", "head.norm", width)
        if recipe.objective["next_sentence"]:
            found += dense("bert.pooler.dense", "objective.pooler")
            found += dense("cls.seq_relationship", "objective.classifier", outputs=2)
        return found


def _has_head(names: Collection[str]) -> bool:
    return any(name.startswith("cls.") for name in names)
