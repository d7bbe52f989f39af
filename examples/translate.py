"""An encoder-decoder learns to translate: from a table of pairs to a picture of where it looks.

    .venv/bin/python examples/translate.py                    # numbers, from English to German
    .venv/bin/python examples/translate.py pairs.csv en de    # a table of your own, and two of its columns

From most of the numbers below 10,000 it must learn that German says seven-and-forty. Text of your own wants a larger
model: take the recipe transformer-tiny, and of the settings below the columns alone.
"""

import sys

import pandas as pd

import zoo
from zoo.report.attention import attention_maps
from zoo.report.attention_picture import draw

WORDS = """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"""
ZAHLEN = """eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn
achtzehn neunzehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"""
ENGLISH, GERMAN = ["", *WORDS.split()], ["", *ZAHLEN.split()]


def spelled(n: int) -> tuple[str, str]:
    """A number in English and in German."""
    for size, name, german_name in (1000, "thousand", "tausend"), (100, "hundred", "hundert"):
        if n >= size:
            (many, viele), (rest, german_rest) = spelled(n // size), spelled(n % size)
            return f"{many} {name} {rest}".strip(), f"{viele.replace('eins', 'ein')}{german_name}{german_rest}"
    ten, one = (18 + n // 10, n % 10) if n >= 20 else (n, 0)
    und = f"{GERMAN[one].replace('eins', 'ein')}und" if one else ""
    return f"{ENGLISH[ten]} {ENGLISH[one]}".strip(), f"{und}{GERMAN[ten]}"


def main(file: str = "", source: str = "english", target: str = "german") -> float:
    """The share of tokens that are guessed right in pairs that were held out."""
    numbers = pd.DataFrame([spelled(n) for n in range(1, 10_000)], columns=["english", "german"])
    pairs = pd.read_csv(file, sep="\t" if file.endswith(".tsv") else ",") if file else numbers
    asked = pairs.sample(3, random_state=0)  # zoo.pretrain holds out others: 5% for validation, 5% as a test
    recipe = zoo.recipe(
        "transformer-nano",
        data={"source": source, "target": target},
        model={"width": 64, "dropout": 0.1},  # and layers, encoder_layers, heads, inner
        tokenizer={"size": 360},  # of both sides; source_tokenizer={...} gives the sources one of their own
        train={"updates": 200, "warmup_updates": 100, "learning_rate": (64 * 100) ** -0.5, "evaluate_every": 20},
    )
    run = zoo.pretrain(recipe, pairs.drop(asked.index))
    history = pd.DataFrame(run.history)
    print(history.dropna(subset="accuracy").filter(["step", "split", "loss", "accuracy"]).to_string(index=False))
    history.pivot_table("loss", "step", "split").interpolate().plot(style=".-").figure.savefig(run.folder / "loss.png")
    model, texts = run.load(), asked[source].tolist()
    for text, written, wanted in zip(texts, model.translate(texts), asked[target], strict=True):
        print(f"{text}\n  written: {written}\n  wanted:  {wanted}")
    draw(attention_maps(model, texts[-1]), run.folder / "attention.png", kind="cross", title=texts[-1])
    return history["accuracy"].iloc[-1]


if __name__ == "__main__":
    main(*sys.argv[1:])
