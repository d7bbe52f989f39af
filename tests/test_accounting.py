"""What a recipe costs, against sums done by hand and against what is published."""

import pytest

from zoo import accounting
from zoo.registry import recipe, recipes
from zoo.schema import Recipe

SMALL = {"width": 24, "layers": 2, "heads": 4, "context": 16}


def small(objective: dict, tokenizer: dict | None = None, **model: object) -> Recipe:
    specials = {"pad": "<p>", "cls": "<c>", "sep": "<s>", "mask": "<m>"}
    whole = {
        "name": "small",
        "model": {**SMALL, **model},
        "tokenizer": {"kind": "bytes", "size": 260, "specials": specials, **(tokenizer or {})},
        "objective": objective,
        "data": {"rows": "pairs" if objective.get("next_sentence") else "packed"},
        "train": {"tokens_per_update": 64, "updates": 10, "learning_rate": 1e-3},
    }
    return Recipe.model_validate(whole)


def terms(found: accounting.Flops) -> dict[str, float]:
    return {term.what: term.value for term in found.terms}


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_has_the_parameters_it_expects(name: str) -> None:
    found = recipe(name)
    assert found.expect is not None
    assert accounting.params(found) == found.expect.params
    assert sum(accounting.params_by_part(found).values()) == found.expect.params


@pytest.mark.parametrize("name", recipes())
def test_the_arithmetic_shown_is_the_arithmetic_done(name: str) -> None:
    check_arithmetic(recipe(name))


def check_arithmetic(found: Recipe) -> None:
    terms = [*accounting.flops(found).terms, *accounting.memory(found, 2, half=True)[1:-1]]
    for term in terms:
        formula = term.arithmetic.partition(" (the sum")[0].replace(",", "").replace(" x ", " * ")
        for word in ("blocks", "layers", "tokens", "distances", "width", "weights", "places", "bytes", "streams"):
            formula = formula.replace(f" {word}", "").replace(f"{word} ", "")
        for remark in ("(keys and values alone)", "(by Zipf's law)"):
            formula = formula.replace(remark, "")
        assert eval(formula) == pytest.approx(term.value, rel=1e-12), term


def test_causal_predicts_at_every_place() -> None:
    found = accounting.flops(small({"name": "causal"}))
    assert terms(found) == {
        "blocks": 6 * 2 * 12 * 24**2,
        "attention": 12 * 2 * 16 * 24,
        "vocabulary": 6 * 260 * 24,
    }
    assert found.per_token == sum(terms(found).values())


def test_rows_of_positions_that_are_scored_are_counted() -> None:
    plain, scored = small({"name": "causal"}), small({"name": "causal"}, head_positions=True)
    assert accounting.params(scored) == accounting.params(plain)
    assert terms(accounting.flops(scored))["vocabulary"] == 6 * (260 + 16) * 24
    more = accounting.memory(scored, 3, half=True)[-1].value - accounting.memory(plain, 3, half=True)[-1].value
    assert more == 3 * 4 * 16 * 16  # rows x (a logit and its gradient) x tokens x positions


def test_masked_predicts_at_some() -> None:
    found = small({"name": "masked", "rate": 0.25, "next_sentence": True}, head_transform=True)
    assert terms(accounting.flops(found)) == {
        "blocks": 6 * 2 * 12 * 24**2,
        "attention": 12 * 2 * 16 * 24,
        "head transform": 6 * 24**2 * 4 / 16,
        "vocabulary": 6 * 260 * 24 * 4 / 16,
        "objective's own": 6 * (24**2 + 2 * 24) * 1 / 16,
    }


def test_permutation_reads_twice() -> None:
    found = small({"name": "permutation", "rate": 0.25}, positions="relative", attention_bias=False)
    assert terms(accounting.flops(found)) == {
        "content stream": 6 * 1 * 12 * 24**2,
        "attention": 24 * 1 * 16 * 24,
        "its last block": 6 * 2 * 24**2,
        "query stream": 6 * 2 * 10 * 24**2 * 4 / 16,
        "its attention": 24 * 2 * 16 * 24 * 4 / 16,
        "vocabulary": 6 * 260 * 24 * 4 / 16,
    }


def test_a_memory_is_looked_up_and_not_learned_through() -> None:
    found = small({"name": "causal"}, positions="relative", attention_bias=False)
    streams = found.with_changes(model={"memory": 10}, data={"rows": "stream"})
    assert terms(accounting.flops(streams)) == {
        "blocks": 6 * 2 * 12 * 24**2,
        "attention": (12 * 26 + 6 * 42) * 2 * 24,
        "keys of the memory": 4 * 2 * 2 * 24**2 * 10 / 16,
        "vocabulary": 6 * 260 * 24,
    }
    assert accounting.remembered(streams, half=True).value == 2 * 2 * 4 * 10 * 24  # bytes, layers, streams, tokens


BINNED = {"cutoffs": [20, 100], "head_bias": True}
BY_ZIPF = {"tail 1": 0.289, "tail 2": 0.172}  # ln(100 / 20) / ln 260 and ln(260 / 100) / ln 260


def test_tails_cost_what_their_share_of_a_text_does() -> None:
    found = accounting.flops(small({"name": "causal"}, **BINNED))
    assert terms(found) == pytest.approx(
        {
            "blocks": 6 * 2 * 12 * 24**2,
            "attention": 12 * 2 * 16 * 24,
            "vocabulary": 6 * (20 + 2) * 24,
            "tail 1": 6 * BY_ZIPF["tail 1"] * 80 * 24,
            "tail 2": 6 * BY_ZIPF["tail 2"] * 160 * 24,
        }
    )


def test_narrow_words_are_projected() -> None:
    found = terms(accounting.flops(small({"name": "causal"}, div_val=4, **BINNED)))
    assert found["embeddings"] == 6 * (24 + 6 + 1) * 24
    assert found["head transform"] == 6 * 24**2
    assert found["vocabulary"] == 6 * (20 + 2) * 24
    assert found["tail 1"] == pytest.approx(6 * BY_ZIPF["tail 1"] * (80 + 24) * 6)
    assert found["tail 2"] == pytest.approx(6 * BY_ZIPF["tail 2"] * (160 + 24) * 1)


@pytest.mark.parametrize("div_val", [1, 4])
def test_the_arithmetic_of_bins_is_the_arithmetic_done(div_val: int) -> None:
    check_arithmetic(small({"name": "causal"}, div_val=div_val, **BINNED))


def test_bins_save_memory() -> None:
    whole, binned = (small({"name": "causal"}, **changed) for changed in ({"head_bias": True}, BINNED))
    scored = 20 + 2 + round(0.289 * 80) + round(0.172 * 160)
    saved = accounting.activations(whole, 1, half=True).value - accounting.activations(binned, 1, half=True).value
    assert saved == 2 * 2 * 16 * (260 - scored)


def test_gpt2_small_agrees_with_what_is_known() -> None:
    """6 x parameters (without positions) + 12 x layers x width x tokens, as nanoGPT counts (estimate_mfu)."""
    found = recipe("gpt2-small")
    matrices = 124_439_808 - 1024 * 768
    known = 6 * matrices + 12 * 12 * 768 * 1024
    assert accounting.flops(found).per_token == pytest.approx(known, rel=2e-3)


def test_memory_grows_with_rows_and_falls_with_precision() -> None:
    found = recipe("gpt2-small")
    one, two, eight = (accounting.memory(found, rows, half=True) for rows in (1, 2, 8))
    assert [term.value for term in one[:-1]] == [term.value for term in eight[:-1]]
    logits = 2 * accounting.LOGITS  # and their gradient; two rows have more than exist at once
    assert eight[-1].value - logits == 4 * (two[-1].value - logits)
    assert accounting.memory(found, 1, half=False)[-1].value > one[-1].value
    assert one[1].value == 4 * 124_439_808


def test_gradients_are_kept_once_where_an_update_is_one_micro_batch() -> None:
    found = small({"name": "causal"})
    gradients = {rows: accounting.memory(found, rows, half=True)[2].value for rows in (1, 4)}
    assert gradients[1] == 2 * gradients[4] == 2 * 4 * accounting.params(found)


def test_as_many_logits_are_counted_as_exist_at_once() -> None:
    from zoo.kernels import cross_entropy

    assert accounting.LOGITS == cross_entropy.LOGITS


def test_blocks_that_are_run_again_keep_their_inputs_and_one_block() -> None:
    found = small({"name": "causal"})
    again = found.with_changes(train={"remat": True})
    block = 16 * (8 * 24 + 4 * (9 * 24 + 2 * 96))
    saved = accounting.activations(found, 3, half=False).value - accounting.activations(again, 3, half=False).value
    assert saved == 3 * (2 * block - (block + 2 * 4 * 16 * 24))
    streams = {"model": {"positions": "relative", "memory": 10}, "data": {"rows": "stream"}}
    more = again.with_changes(**streams), again.with_changes(model={"positions": "relative"})
    remembered = (4 + 2 * 4) * 24 * 10  # state, k and v, of the one block
    read = 2 * 4 * 24 * (16 + 10)  # by each block: its row after its memory
    of_more, of_fewer = (accounting.activations(each, 1, half=False).value for each in more)
    assert of_more - of_fewer == remembered + read


def test_sizes_are_readable() -> None:
    shown = [accounting.size(value, "B") for value in (0, 999, 1000, 12_345_678, 5e21)]
    assert shown == ["0 B", "999 B", "1.0 kB", "12.3 MB", "5,000.0 EB"]
