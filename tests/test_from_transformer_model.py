"""What users of transformer_model are told to do: docs/from-transformer-model.md and examples/translate.py run."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.registry import recipe
from zoo.train.schedule import learning_rate

CHECKOUT = Path(__file__).parents[1]
PAGE = (CHECKOUT / "docs" / "from-transformer-model.md").read_text(encoding="utf-8")
OLD_NAMES = """create_padding_mask create_look_ahead_mask create_masks MultiHeadAttention scaled_dot_product_attention
    split_heads point_wise_feed_forward_network EncoderLayer DecoderLayer Encoder Decoder get_angles
    positional_encoding Transformer positional_embedding positionwise_ff rel_shift relative_multihead_attn
    embedding_lookup mask_adaptive_embedding_lookup CustomSchedule load_data train_test_split tokenizer encode
    filter_max_length tf_encode to_tensor_dataset preprocess test_size csv_path max_length feature_col target_col
    buffer_size batch_size loss_function train_step test_step train load_ckpt checkpoint_path max_to_keep
    use_tensorboard tb_log_dir epochs evaluate translate plot_attention_weights"""


def run_section(title: str) -> dict[str, Any]:
    """Executes the blocks of a section and the last cells of its tables, in order; what they leave behind."""
    _, _, section = PAGE.partition(f"\n{title}\n")
    section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
    left: dict[str, Any] = {}
    pieces = re.findall(r"```python\n(.*?)```|^\|[^\n]*\| `([^`\n]+)` \|$", section, re.DOTALL | re.MULTILINE)
    assert pieces
    for block, line in pieces:
        try:
            exec(block or line, left)
        except Exception as error:
            error.add_note(block or line)
            raise
    return left


def test_every_old_name_is_in_a_table() -> None:
    cells = " ".join(re.findall(r"^\| ([^|]*) \|", PAGE, re.MULTILINE))
    assert [name for name in OLD_NAMES.split() if not re.search(rf"\b{name}\b", cells)] == []


def test_every_row_has_a_line_of_code() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| [`i]", line)]
    assert [row for row in rows if not row.endswith("` |") and "never finished" not in row] == []
    assert all(row.count("|") == 4 for row in rows)


@pytest.mark.slow
def test_the_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier"}
    drawn = np.random.default_rng(0).choice(list(words), (200, 3))
    lines = [f"{' '.join(line)},{' '.join(words[word] for word in line)}" for line in drawn]
    Path("pairs.csv").write_text("\n".join(["en,de", *lines]), encoding="utf-8")
    left = run_section("## The whole path")
    assert (left["run"].folder / "look.png").is_file()


def test_the_parts() -> None:
    run_section("## The parts")


@pytest.mark.slow
def test_a_model_of_one_s_own() -> None:
    left = run_section("### A model of your own")
    schedule, width = left["CustomSchedule"](64, 9), 64
    noam = recipe("transformer-nano", train={"learning_rate": (width * 9) ** -0.5, "warmup_updates": 9}).train
    for update in range(30):
        assert float(schedule(update)) == pytest.approx(learning_rate(noam, update), rel=1e-5)
    tagger, given = left["tagger"], left["given"]
    assert not np.array_equal(tagger(given, training=True), tagger(given))


@pytest.mark.slow
def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("translate", CHECKOUT / "examples" / "translate.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert re.search(r"python examples/translate\.py", example.__doc__ or "")
    assert example.spelled(2021) == ("two thousand twenty one", "zweitausendeinundzwanzig")
    monkeypatch.chdir(tmp_path)
    assert example.main() > 0.95
    assert {"loss.png", "attention.png"} <= {file.name for file in tmp_path.glob("runs/*/*")}
