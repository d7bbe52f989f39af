"""The commands for labelled text: what a frozen model knows of the labels, and a model that learns them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from zoo.commands.options import Checkpoint, number
from zoo.errors import UserError, nearest
from zoo.progress import printable

Labelled = Annotated[
    str,
    typer.Option(metavar="SRC", help="Labelled text: a table, CoNLL file, hf:NAME[:CONFIG[:SPLIT]] or glue:NAME."),
]
Text = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="The column of the texts, where it has no usual name. Twice for pairs."),
]
Label = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The column of the labels. Default: label; of words, tags.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]


def probe(
    checkpoint: Checkpoint,
    data: Labelled,
    test: Annotated[
        str | None, typer.Option(metavar="SRC", help="What it is measured on. Default: a fifth of the data.")
    ] = None,
    text: Text = None,
    label: Label = None,
    as_json: AsJson = False,
) -> None:
    """What each layer of a model knows of some labels.

    Every text's states are averaged over its tokens, in every layer (the embeddings are layer 0); a logistic regression
    learns the labels from them, its regularization chosen by cross-validation. Beside each layer's accuracy, F1 and
    Matthews coefficient stand intervals that hold in 95 of 100 samples, and the accuracy of guessing the commonest
    label. Needs scikit-learn: pip install 'objective-zoo[probe]'.

    \b
    Examples:
      zoo probe bert-nano --data reviews.csv
      zoo probe gpt2-nano --data train.jsonl --test test.jsonl --text body --label stars --json
    """
    from zoo.corpus.labelled import Asked
    from zoo.report.measures import probe_numbers, probe_table
    from zoo.use.loaded import load
    from zoo.use.probe import probe as read_off

    probed = read_off(load(checkpoint), data, Asked("classify", text or (), label), test)
    print(json.dumps(probe_numbers(probed)) if as_json else "\n".join(probe_table(probed)))


def finetune(
    checkpoint: Checkpoint,
    data: Labelled,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="classify, pairs or tag. Default: classify, or GLUE's own.")
    ] = None,
    valid: Annotated[
        str | None, typer.Option(metavar="SRC", help="Chooses the best epoch. Default: a tenth of the data, or GLUE's.")
    ] = None,
    test: Annotated[str | None, typer.Option(metavar="SRC", help="Measured once, at the end.")] = None,
    text: Text = None,
    label: Label = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where it is kept. Default: runs/CKPT-TASK-1, -2, ...")
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", parser=number(1), help="Default: as published, 3.")] = None,
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(
            metavar="R", parser=number(1e-12, float), help="Default: as published. Repeatable: the best is kept."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="S", parser=number(0, below=2**63), help="Of the head, the order and dropout.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Teach a model the labels of texts, pairs or words.

    With the settings published for its family: a BERT is asked at [CLS], an XLNet at its last <cls>, a causal model at
    the last token, with the loss of the next token beside. Words are asked at their first token. After every epoch the
    validation part is measured; the best epoch is kept, and three without a better one end the training.

    Texts stand in the column text (or sentence), pairs in text_a and text_b (or sentence1 and sentence2, premise and
    hypothesis, question and sentence), words and tags in lists tokens and tags, or in a CoNLL file.

    \b
    Examples:
      zoo finetune bert-nano --data reviews.csv
      zoo finetune runs/bert-base-1 --data glue:mrpc --learning-rate 5e-5 --learning-rate 3e-5 --learning-rate 2e-5
      zoo finetune bert-nano --data train.conll --valid dev.conll --test test.conll --task tag --out runs/names
    """
    from zoo.corpus.glue import glue
    from zoo.corpus.labelled import TASKS, Asked
    from zoo.report.measures import finetune_numbers, finetune_table
    from zoo.tuning.finetune import finetune as tune

    known = glue(data)
    task = task or ("pairs" if known and len(known.columns) == 2 else "classify")
    if task not in TASKS:
        raise UserError(f"--task {task!r} is none{nearest(task, TASKS)}")
    asked = Asked(task, text or (), label)
    tuned = tune(checkpoint, asked, data, valid, test, out, epochs=epochs, rates=learning_rate or (), seed=seed)
    if as_json:
        print(json.dumps(finetune_numbers(tuned)))
        return
    best = tuned.best
    print(f"{tuned.folder}: epoch {best.number} at learning rate {best.learning_rate:g}, the best by {tuned.measure}")
    print("\n".join(finetune_table(tuned)))


def predict(
    checkpoint: Annotated[Path, typer.Argument(metavar="FOLDER", help="What zoo finetune wrote.")],
    data: Annotated[
        str,
        typer.Argument(metavar="SRC", help="What is to be labelled; of glue:NAME the test split. No label is read."),
    ],
    text: Text = None,
) -> None:
    """The labels that a fine-tuned model finds.

    Of texts and pairs a line for each, its index and its label, with the header that GLUE wants; of words a word, a tab
    and its tag a line, and an empty line after each sentence.

    \b
    Examples:
      zoo predict runs/bert-nano-classify-1 reviews.csv
      zoo predict runs/bert-base-1-pairs-1 glue:mrpc
      zoo predict runs/names sentences.jsonl
    """
    from zoo.corpus.glue import glue, split_of
    from zoo.corpus.labelled import Asked, read_examples
    from zoo.tuning.labeller import load_labeller

    if (known := glue(data)) is not None:
        data = split_of(data, known.test)
    labeller = load_labeller(checkpoint)
    task = labeller.framing.task
    examples = list(read_examples(data, Asked(task, text or ()), labelled=False))
    found = labeller.label(examples)
    if task == "tag":
        for example, tags in zip(examples, found, strict=True):
            print("".join(f"{printable(word)}\t{tag}\n" for word, tag in zip(example.texts, tags, strict=True)))
        return
    print("index\tprediction")
    for index, (label,) in enumerate(found):
        print(f"{index}\t{printable(label)}")
