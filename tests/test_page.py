"""zoo report: what runs leave behind as a page, read as HTML and looked at in a browser."""

import base64
import hashlib
import json
import math
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from test_house import fresh

from zoo import accounting, evaluations
from zoo.cli import run as zoo
from zoo.corpus.prepare import open_texts, tokenized
from zoo.errors import UserError
from zoo.home import home
from zoo.registry import recipe
from zoo.report import batch as batch_report
from zoo.report import measured, page, settings, tables
from zoo.report import record as records_of
from zoo.report.curves import charts, smoothed, thinned
from zoo.report.example import example
from zoo.report.record import Record
from zoo.report.still import ticks
from zoo.train import run

TASKS = {"gpt2-nano": ["causal"], "bert-nano": ["masked"], "xlnet-nano": ["permutation"]}
HOSTILE = "</script><script>alert(1)</script>"


def made(
    folder: Path, name: str = "gpt2-nano", *, done: int = 40, updates: int = 40, title: str | None = None, **facts: Any
) -> Path:
    """A run's folder as training leaves it. facts: of its environment; `train` and `changes` are of its recipe."""
    changes = {"train": {"updates": updates, **facts.pop("train", {})}, **facts.pop("changes", {})}
    own = recipe(name, **changes)
    folder.mkdir(parents=True)
    run.write_recipe(folder, own.model_copy(update={"name": title or name}))
    tasks = [*records_of.read([folder])[0].objective.scales]
    lines: list[dict[str, Any]] = []
    for step in range(1, done + 1):
        losses = {task: 4 + 4 / step + 0.1 * math.sin(9 * step) for task in ["loss", *tasks]}
        rates = {"learning_rate": 1e-3, "grad_norm": 1.0 + step % 3, "tokens_per_second": 1024.0}
        tokens = step * own.train.tokens_per_update
        lines.append({"step": step, "split": "train", **losses, "tokens": tokens, **rates})
        if step % 20 == 0:
            lines.append({"step": step, "split": "valid", **losses, "accuracy": 0.1})
    (folder / run.METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "tokenizer.json").write_text(facts.pop("tokenizer", "{}"))
    known = {"corpus_fingerprint": "0123456789abcdef", "given": {"init_from": None}, "unigram_entropy": 6.6}
    known |= {"command": ["/usr/bin/zoo", "pretrain", name, "--out", "my run"], "commit": "abc"}
    (folder / run.ENVIRONMENT).write_text(json.dumps(known | facts))
    return folder


def one(folder: Path) -> Record:
    return records_of.read([folder])[0]


def html_of(folders: list[Path], file: Path, **more: Any) -> str:
    page.write(folders, file, **more)
    return file.read_text(encoding="utf-8")


# --- curves


def test_thinning_keeps_the_ends_and_every_spike() -> None:
    values = np.sin(np.arange(300_000) / 7000)
    values[123_457], values[250_001] = 40.0, -40.0
    kept = thinned(values, 1000)
    assert len(kept) <= 1000
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    assert {123_457, 250_001} <= {*kept.tolist()}
    assert (np.diff(kept) > 0).all()
    assert np.diff(kept).max() < 1300
    assert thinned(np.arange(7.0), 1000).tolist() == [*range(7)]


def test_smoothing_is_a_mean_around_each_update() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    found = smoothed(values)
    assert found[0] == values[0]  # nothing stands before it
    assert found[5] == pytest.approx(values[:11].mean())
    assert found[500] == pytest.approx(values[490:511].mean())
    assert found[-1] == pytest.approx(values[-11:].mean())
    assert smoothed(np.full(50, 3.0)) == pytest.approx(np.full(50, 3.0))


def test_points_lie_at_their_tokens_and_their_time(tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    (loss,), training = charts([one(folder)])
    raw, smooth, valid = (next(c for c in loss.curves if c.kind == kind) for kind in ("raw", "smooth", "valid"))
    each = recipe("gpt2-nano").train.tokens_per_update
    assert raw.tokens == [each * step for step in range(1, 41)]
    assert raw.seconds == [each / 1024 * step for step in range(1, 41)]
    assert raw.values[0] == pytest.approx(8.0412, abs=1e-3)
    assert valid.tokens == [each * 20, each * 40]
    assert valid.seconds == [each / 1024 * 20, each / 1024 * 40]
    assert np.std(np.diff(smooth.values)) < np.std(np.diff(raw.values))
    assert loss.baselines == [("chance, ln 4,096", pytest.approx(math.log(4096))), ("unigram entropy", 6.6)]
    assert [chart.title for chart in training] == ["learning rate", "gradient norm", "throughput"]


def test_only_runs_of_one_task_share_a_chart(tmp_path: Path) -> None:
    pairs = {"changes": {"objective": {"next_sentence": True}, "data": {"rows": "pairs", "across_documents": False}}}
    folders = [
        made(tmp_path / "a"),
        made(tmp_path / "b", train={"seed": 1}),
        made(tmp_path / "c", "bert-nano"),
        made(tmp_path / "d", "bert-nano", **pairs),
        made(tmp_path / "e", "xlnet-nano"),
    ]
    losses, training = charts(records_of.read(folders))
    assert {chart.title: {curve.run for curve in chart.curves} for chart in losses} == {
        "causal": {0, 1},
        "masked": {2, 3},
        "next_sentence": {3},
        "permutation": {4},
    }
    assert losses[2].baselines == [("chance", pytest.approx(math.log(2)))]
    assert all({curve.run for curve in chart.curves} == {*range(5)} for chart in training)


def test_long_runs_make_a_small_page(tmp_path: Path) -> None:
    record = one(made(tmp_path / "a"))
    line = record.lines["train"][0]
    lines = [line | {"step": step, "tokens": 2048 * step} for step in range(1, 30_001)]
    losses, training = charts([record._replace(lines={"train": lines, "valid": []})] * 9)
    assert max(len(curve.values) for chart in losses for curve in chart.curves) <= 1000
    points = sum(len(curve.values) for chart in (*losses, *training) for curve in chart.curves)
    assert 10_000 < points <= 40_000  # of some 25 bytes


def test_a_loss_that_is_not_finite_has_no_point(tmp_path: Path) -> None:
    folder = made(tmp_path / "a", done=5)
    with (folder / run.METRICS).open("a") as file:
        file.write('{"step": 6, "split": "train", "loss": NaN, "causal": NaN, "tokens": 12288}\n')
    (loss,), _ = charts([one(folder)])
    assert all(len(curve.values) == 5 for curve in loss.curves)
    assert "nan" in html_of([folder], tmp_path / "a.html")


@pytest.mark.parametrize("low, high", [(0, 1), (4.13, 8.32), (0, 163_840), (1e-5, 6e-3), (-3, 7)])
def test_ticks_are_round_numbers(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert low <= found[0] + 1e-9
    assert found[-1] <= high + 1e-9
    assert all(float(f"{tick:.2g}") == pytest.approx(tick, abs=1e-12) for tick in found)


# --- which runs belong together, and which must not be compared


def test_runs_that_differ_in_their_seed_are_a_group(tmp_path: Path) -> None:
    folders = [
        made(tmp_path / "a", train={"seed": 1}),
        made(tmp_path / "b", train={"seed": 2, "micro_rows": 1}),  # as fitted to the memory of some machine
        made(tmp_path / "c", train={"seed": 3, "learning_rate": 1e-4}),
        made(tmp_path / "d", train={"seed": 4}, given={"init_from": "/other/model"}),
        made(tmp_path / "e", train={"seed": 5}, corpus_fingerprint="fedcba9876543210"),
    ]
    groups = records_of.grouped(records_of.read(folders))
    assert [group.label for group in groups] == ["a, b", "c", "d", "e"]
    found = tables.losses(groups, "causal")
    last = f"{4.1 + 0.1 * math.sin(360):.3f}"
    assert found.head == ["run", "train", "validation", "after update", "lowest validation"]
    assert [(row.cells[0], row.seeds) for row in found.rows][:4] == [
        ("a", False),
        ("b", False),
        ("mean of 2 seeds", True),
        ("c", False),
    ]
    assert found.rows[0].cells[1] == last
    keys = [row.cells[0] for row in settings.differences(groups).rows]
    assert keys == ["train.learning_rate", "train.seed", "train.micro_rows"]
    assert settings.differences(groups).rows[1].cells == ["train.seed", "1, 2", "3", "4", "5"]


def test_seeds_are_told_as_mean_and_range() -> None:
    each = [{"loss": value, "loss_interval": [0, 9], "score": "x"} for value in (1.0, 2.0, 6.0)]
    assert tables.over_seeds(each, "loss") == "3.000 (1.000 to 6.000)"
    assert tables.over_seeds(each[:1], "loss") == "1.000 [0, 9]"
    assert tables.over_seeds(each, "score") == "x"
    assert tables.over_seeds(each, "absent") == "–"
    assert tables.over_seeds([{"step": 20}, {"step": 1400}], "step") == "20, 1,400"


def test_other_text_or_tokens_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = [made(tmp_path / "a"), made(tmp_path / "b", "bert-nano")]
    assert 'class="warnings"' not in html_of(same, tmp_path / "same.html")
    assert capsys.readouterr().err == ""
    other = made(tmp_path / "c", corpus_fingerprint="ffff0000ffff0000", tokenizer='{"other": 1}')
    html = html_of([*same, other], tmp_path / "other.html", notes=["budgets <differ>"])
    told = capsys.readouterr().err.splitlines()
    corpora = "these runs have different corpora, so that their losses are not comparable: sotu (01234567): a, b; sotu"
    assert told[0] == f"warning: {corpora} (ffff0000): c"
    assert re.search(r"different tokenizers, .*: bytes_bpe, 4,096 ids \(44136fa3\): a, b; bytes_bpe, .*: c$", told[1])
    assert html.count("<strong>Warning:</strong>") == 3
    assert f"{corpora} (ffff0000): c" in html
    assert "budgets &lt;differ&gt;" in html


def test_runs_of_one_name_are_told_by_their_paths(tmp_path: Path) -> None:
    folders = [made(tmp_path / "x" / "run"), made(tmp_path / "y" / "run")]
    assert [record.label for record in records_of.read(folders)] == [*map(str, folders)]
    with pytest.raises(UserError, match="a run is given twice"):
        records_of.read([folders[0], folders[0] / "../run"])


# --- evaluations


def test_likelihoods_and_pseudo_likelihoods_never_share_a_table(tmp_path: Path) -> None:
    found = {
        "gpt2-nano": {"loss": 5.0, "causal": 5.0, "perplexity": 148.4, "bits_per_byte": 1.7},
        "bert-nano": {"loss": 6.0, "masked": 6.0, "accuracy": 0.25, "pseudo_bits_per_byte": 1.5},
        "xlnet-nano": {"stride": 128, "loss": 6.5, "permutation": 6.5, "bits_per_byte": 2.5},
    }
    found["bert-nano"]["pseudo_bits_per_byte_interval"] = found["xlnet-nano"]["bits_per_byte_interval"] = [1.25, 2.75]
    folders = [made(tmp_path / name, name) for name in found]
    for folder in folders:
        evaluations.keep(folder, "text", "held out", {"step": 40, **found[folder.name]})
    groups = records_of.grouped(records_of.read(folders))
    by_title = {table.title: [table.head, *(row.cells for row in table.rows)] for table in measured.texts(groups)}
    assert by_title == {
        "held out: losses of causal": [["run", "loss", "after update"], ["gpt2-nano", "5.000", "40"]],
        "held out: losses of masked": [
            ["run", "loss", "accuracy", "after update"],
            ["bert-nano", "6.000", "25.0%", "40"],
        ],
        "held out: losses of permutation": [["run", "loss", "after update"], ["xlnet-nano", "6.500", "40"]],
        "held out: likelihood": [
            ["run", "perplexity", "bits per byte", "after update", "stride"],
            ["gpt2-nano", "148.4", "1.700", "40", "–"],
            ["xlnet-nano", "–", "2.500 [1.250, 2.750]", "40", "128"],
        ],
        "held out: pseudo-likelihood": [
            ["run", "pseudo bits per byte", "after update"],
            ["bert-nano", "1.500 [1.250, 2.750]", "40"],
        ],
    }
    html = html_of(folders, tmp_path / "all.html")
    assert "no probability of the text, so that it cannot be compared with a likelihood" in html


def test_minimal_pairs_are_told_with_their_intervals(tmp_path: Path) -> None:
    folders = [made(tmp_path / name, train={"seed": seed}) for seed, name in enumerate("ab")]
    folders.append(made(tmp_path / "c", "bert-nano"))
    for folder, share in zip(folders, (0.5, 0.6, 0.7), strict=True):
        part = {"accuracy": share, "interval": [share - 0.1, share + 0.1], "pairs": 1000}
        kind = "pseudo-log-likelihood" if folder.name == "c" else "log-likelihood"
        parts = {"phenomena": {"agreement": part}, "paradigms": {"agreement_1": part}}
        evaluations.keep(folder, "suite", "BLiMP", {"step": 40, "score": kind, **part, **parts})
    (suite,) = measured.suites(records_of.grouped(records_of.read(folders)))
    assert suite.whole.head == ["run", "accuracy", "pairs", "compared by", "after update"]
    assert [row.cells for row in suite.whole.rows] == [
        ["a", "50.0% [40.0%, 60.0%]", "1,000", "log-likelihood", "40"],
        ["b", "60.0% [50.0%, 70.0%]", "1,000", "log-likelihood", "40"],
        ["mean of 2 seeds", "55.0% (50.0% to 60.0%)", "1,000", "log-likelihood", "40"],
        ["c", "70.0% [60.0%, 80.0%]", "1,000", "pseudo-log-likelihood", "40"],
    ]
    assert suite.phenomena.head == ["phenomenon", "a, b", "c"]
    assert suite.phenomena.rows[0].cells == ["agreement", "55.0% (50.0% to 60.0%)", "70.0% [60.0%, 80.0%]"]
    assert suite.paradigms.rows[0].cells[0] == "agreement_1"


# --- runs that are not finished, and folders that hold none


def test_a_run_that_goes_on_says_how_far_it_is(tmp_path: Path) -> None:
    folder = made(tmp_path / "a", done=500, updates=1400)
    metrics = folder / run.METRICS
    metrics.write_text(metrics.read_text() + '{"step": 501, "split": "tra')  # it is being written
    html = html_of([folder], tmp_path / "a.html")
    assert "at update 500 of 1,400" in html
    assert f"zoo pretrain {folder}/recipe.yaml --out {folder} --resume" in html
    assert "a run leaves one after its last update" in html  # a sample


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    for name in (run.METRICS, run.ENVIRONMENT, "tokenizer.json"):
        (folder / name).unlink()
    html = html_of([folder, made(tmp_path / "b")], tmp_path / "a.html")
    assert "no update yet" in html
    assert "environment.json cannot be read" in html
    assert "it is not known whether these runs have the same corpora: not known: a; sotu (01234567): b" in html
    assert "environment.json or tokenizer.json is missing" in html
    alone = html_of([folder], tmp_path / "alone.html")
    assert '<p class="about">No update yet.</p>' in alone


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    folder = made(tmp_path / "run-1")
    for name, why in (("empty", "holds no run (recipe.yaml is missing)"), ("run-3", "; did you mean 'run-1'?")):
        assert zoo(["report", str(tmp_path / name)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert len(told.err.splitlines()) == 1
        assert why in told.err
    assert zoo(["report", str(folder), "--out", str(tmp_path / "no" / "such.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_where_the_page_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [made(tmp_path / name) for name in "ab"]
    checkpoint = folders[0] / "checkpoints" / "step-00000040"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("{}")
    assert zoo(["report", "a"]) == zoo(["report", "a", "b"]) == 0
    assert capsys.readouterr().out.split() == ["a/report.html", "report.html"]
    assert (folders[0] / "report.html").exists()
    assert (tmp_path / "report.html").exists()
    assert zoo(["report", str(checkpoint), "--out", "c.html"]) == 0
    assert "<h1>a</h1>" in Path("c.html").read_text()
    monkeypatch.chdir(folders[1])
    assert zoo(["report", "."]) == 0
    assert "<h1>b</h1>" in (folders[1] / "report.html").read_text()


def test_commands_can_be_pasted(tmp_path: Path) -> None:
    folder = made(tmp_path / "it's mine", done=3)
    told = dict(settings.commands(one(folder)))
    assert told["It was started by"] == "zoo pretrain gpt2-nano --out 'my run'"
    again = shlex.split(told["The same from its resolved recipe"])
    assert again == ["zoo", "pretrain", f"{folder}/recipe.yaml", "--out", f"{folder}-again"]
    assert shlex.split(told["To continue it"])[-3:] == ["--out", str(folder), "--resume"]
    script = made(tmp_path / "b", command=["train.py", "--fast"])
    assert dict(settings.commands(one(script)))["It was started by"] == "python train.py --fast"
    memory = one(made(tmp_path / "c", changes={"data": {"corpus": run.MEMORY}}))
    assert [what for what, _ in settings.commands(memory)] == ["It was started by"]


def test_the_command_starts_no_backend(tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    loaded = fresh(f"""
import json, sys
from zoo.cli import run
assert run(["report", {str(folder)!r}]) == 0
print()
print(json.dumps([name.split(".")[0] for name in sys.modules]))
""")
    assert {"tensorflow", "keras", "datasets", "matplotlib"}.isdisjoint(loaded)


# --- the first batch


def test_the_first_batch_is_read_from_what_is_kept(tmp_path: Path, zoo_home: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"The {n} old dogs ran home and slept, {n} of them well.\n\n" for n in range(900)))
    small = {"tokenizer": {"kind": "bytes", "size": 300}, "data": {"corpus": str(text), "document": "blank_line"}}
    own = recipe("gpt2-nano", **small)
    texts = open_texts(own.data.corpus, own.data)
    corpus = tokenized(own, texts, {}, home())
    kept = {"tokenizer": corpus.tokenizer.json(), "corpus_fingerprint": texts.fingerprint}
    folder = made(tmp_path / "a", changes=small, **kept)
    shown = example(one(folder))
    assert shown == batch_report.decoded(one(folder).recipe, 1, 1)
    assert "o l d · d o g s" in shown.replace("·o", "· o")
    text.unlink()
    assert example(one(folder)) == shown
    strange = made(tmp_path / "b", changes=small, **{**kept, "corpus_fingerprint": "0"})
    with pytest.raises(UserError, match=r"the tokens of .*text\.txt are not kept in ZOO_HOME"):
        example(one(strange))
    assert "It cannot be shown: the tokens of" in html_of([strange], tmp_path / "b.html")


def test_the_first_batch_of_parallel_text(tmp_path: Path, zoo_home: Path) -> None:
    sides = [tmp_path / "text.en", tmp_path / "text.de"]
    for side, words in zip(sides, (("a cat", "sleeps"), ("eine Katze", "schläft")), strict=True):
        side.write_text("".join(f"{n} {words[0]} {n + 1} {words[1]}\n" for n in range(400)), encoding="utf-8")
    small = {"tokenizer": {"kind": "bytes", "size": 300}, "data": {"corpus": ",".join(map(str, sides))}}
    own = recipe("transformer-nano", **small)
    texts = open_texts(own.data.corpus, own.data)
    corpus = tokenized(own, texts, {}, home())
    kept = {"tokenizer": corpus.tokenizer.json(), "corpus_fingerprint": texts.fingerprint}
    folder = made(tmp_path / "a", "transformer-nano", changes=small, **kept)
    assert example(one(folder)) == batch_report.decoded(one(folder).recipe, 1, 1)
    sides[0].write_text(sides[0].read_text().replace("cat", "cow"))
    with pytest.raises(UserError, match="is not the text any more that this run read"):
        example(one(folder))


# --- the page itself


def test_a_page_asks_for_nothing_and_runs_its_own_script_alone(tmp_path: Path) -> None:
    html = html_of([made(tmp_path / "a")], tmp_path / "a.html")
    assert not re.findall(r"(?:src|href|action|data)=[\"'](?!#)", html)
    assert "url(http" not in html
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy
    assert policy[1].startswith("default-src 'none'; ")
    for kind, tag in (("script", "<script>"), ("style", "<style>")):
        inside = html.partition(tag)[2].partition(f"</{kind}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1]
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html


def test_all_that_users_write_is_escaped(tmp_path: Path) -> None:
    folder = made(tmp_path / "<b>bold<", title=HOSTILE, command=["zoo", HOSTILE, "\udcff"], corpus={"name": HOSTILE})
    (folder / run.SAMPLE).write_text(f"{HOSTILE}<img src=x onerror=alert(1)>")
    html = html_of([folder], tmp_path / "a.html", title=HOSTILE)
    assert html.count("<script") == 2
    assert html.count("</script") == 2
    assert "<img" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


@pytest.mark.parametrize("name", ["transformer-nano", "transformer-xl-nano"])
def test_other_kinds_of_recipes_have_a_page(tmp_path: Path, name: str) -> None:
    html = html_of([made(tmp_path / "a", name)], tmp_path / "a.html")
    assert html.count('class="matrix"') == len(page.panels(recipe(name)))
    assert html.count('<figure class="chart"') == 4


# --- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here (Debian: apt install chromium)")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all that a page can have."""
    room = tmp_path_factory.mktemp("seen")
    folders = [made(room / f"run-{n}", train={"seed": n}, done=40 - 10 * n) for n in range(2)]
    folders.append(made(room / "bert", "bert-nano", title=HOSTILE, corpus_fingerprint="ffff0000ffff0000"))
    folders.append(made(room / f"a-name-that-is-quite-long-{'x' * 90}", "xlnet-nano"))
    (folders[2] / run.SAMPLE).write_text(f"{HOSTILE} {'word' * 60}")
    part = {"accuracy": 0.5, "interval": [0.4, 0.6], "pairs": 100}
    suite = {"step": 40, "score": "log-likelihood", **part, "phenomena": {"p": part}, "paradigms": {"q": part}}
    evaluations.keep(folders[0], "suite", "BLiMP", suite)
    evaluations.keep(folders[0], "text", "validation split", {"step": 40, "loss": 5.0, "perplexity": 148.0})
    page.write(folders, room / "report.html")
    return room / "report.html"


def range_of(browser: Browser, chart: int) -> list[float]:
    """Where the x axis of a chart begins and ends, by the places and the labels of its first and last tick."""
    (low_at, low), (high_at, high) = browser.run(f"""(() => {{
        const svg = document.querySelector("[data-chart='{chart}'] svg");
        const texts = [...svg.querySelectorAll("text[text-anchor=middle]")].slice(0, -1);
        const read = (text) => {{
            const [number, prefix] = text.textContent.split(" ");
            return [Number(text.getAttribute("x")), Number(number) * ({{ k: 1e3, M: 1e6 }}[prefix] ?? 1)];
        }};
        return [read(texts[0]), read(texts[texts.length - 1])];
    }})()""")
    left, right = browser.run(f"""(() => {{
        const box = document.querySelector("[data-chart='{chart}'] clipPath rect");
        const x = Number(box.getAttribute("x")) + 5;
        return [x, x + Number(box.getAttribute("width")) - 10];
    }})()""")
    slope = (high - low) / (high_at - low_at)
    return [low + (left - low_at) * slope, low + (right - low_at) * slope]


def test_charts_are_drawn_and_can_be_zoomed(browser: Browser, seen: Path) -> None:
    browser.open(seen)
    assert browser.trouble == []
    assert browser.asked == [seen.as_uri()]
    counts = browser.run(
        "[...document.querySelectorAll('[data-chart] svg')].map(s => s.querySelectorAll('.smooth').length)"
    )
    assert counts == [2, 1, 1, 4, 4, 4]  # causal, masked, permutation; rate, norm, throughput
    assert browser.run("document.querySelectorAll('[data-chart=\"0\"] circle.valid').length") == 3
    whole = range_of(browser, 0)
    assert whole == pytest.approx([0, 40 * 2048], abs=100)
    box = browser.run("""(() => {
        const svg = document.querySelector('[data-chart="0"] svg');
        svg.scrollIntoView({ block: "center" });
        const { left, top, width, height } = svg.getBoundingClientRect();
        return [left, top, width, height];
    })()""")
    middle, quarter = box[1] + box[3] / 2, box[0] + 52 + (box[2] - 66) / 4
    browser.mouse("mouseMoved", quarter, middle)
    told = browser.run("document.querySelector('[data-chart=\"0\"] output').textContent")
    assert "20.48 k tokens" in told
    assert "run-0" in told
    assert "run-1" in told
    assert "at update 10" in told
    browser.mouse("mousePressed", quarter, middle)
    browser.mouse("mouseMoved", quarter + (box[2] - 66) / 2, middle, buttons=1)
    assert browser.run("document.querySelectorAll('[data-chart=\"0\"] .chosen').length") == 1
    browser.mouse("mouseReleased", quarter + (box[2] - 66) / 2, middle)
    assert range_of(browser, 0) == pytest.approx([10 * 2048, 30 * 2048], rel=0.01)
    assert range_of(browser, 1) == pytest.approx([0, 40 * 2048], abs=100)  # the others stay
    for clicks in (1, 2):
        browser.mouse("mousePressed", quarter, middle, clickCount=clicks)
        browser.mouse("mouseReleased", quarter, middle, clickCount=clicks)
    assert range_of(browser, 0) == pytest.approx(whole, abs=1)
    assert browser.trouble == []


def test_charts_obey_keys_and_switches(browser: Browser, seen: Path) -> None:
    browser.open(seen)
    browser.run("document.querySelector('[data-chart=\"1\"] .area').focus()")
    for _ in range(20):
        browser.key("ArrowRight")
    assert "40.96 k tokens" in browser.run("document.querySelector('[data-chart=\"1\"] output').textContent")
    browser.key("+")
    assert range_of(browser, 1) == pytest.approx([10 * 2048, 30 * 2048], rel=0.01)
    browser.key("0")
    assert range_of(browser, 1) == pytest.approx([0, 40 * 2048], abs=100)
    browser.run('document.querySelector(\'[data-chart="1"] button[aria-label^="Zoom in"]\').click()')
    assert range_of(browser, 1) == pytest.approx([10 * 2048, 30 * 2048], rel=0.01)

    def axis(name: str) -> str:
        browser.run(f"document.querySelector('input[value={name}]').click()")
        return browser.run("[...document.querySelectorAll('[data-chart=\"0\"] svg > text')].at(-3).textContent")

    def last_x() -> float:
        return range_of(browser, 0)[1]

    assert axis("seconds") == "training time (s)"
    assert last_x() == pytest.approx(40 * 2048 / 1024, rel=0.01)
    assert axis("flops") == "compute (FLOP)"
    per_token = accounting.flops(recipe("gpt2-nano")).per_token
    label = browser.run("document.querySelector('[data-chart=\"0\"] svg').getAttribute('aria-label')")
    assert label.startswith("causal along compute (FLOP), 2 runs: run-0 ends at 4.")
    ends = browser.run(
        "[...document.querySelectorAll('[data-chart=\"0\"] svg > text[text-anchor=middle]')].at(-2).textContent"
    )
    number, unit = ends.split(" ")
    assert float(number) * {"G": 1e9, "T": 1e12}[unit] <= per_token * 40 * 2048
    browser.run("document.querySelector('input[name=group]').click()")  # the two seeds
    assert browser.run("document.querySelectorAll('[data-chart=\"0\"] .smooth').length") == 0
    assert browser.run("document.querySelectorAll('[data-chart=\"3\"] .smooth').length") == 2
    browser.run("document.querySelector('input[value=raw]').click()")
    assert browser.run("document.querySelectorAll('.raw').length") == 0
    assert browser.trouble == []


CONTRASTS = """(() => {
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => rgb.map(channel).reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const [r, g, b, alpha = 1] = parse(getComputedStyle(element).backgroundColor);
      if (alpha === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const contrast = (a, b) => {
    const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const hasText = (element) => [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const found = { text: 21, line: 21, texts: 0 };
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest("script, noscript")) continue;
    const style = getComputedStyle(element);
    if (hasText(element) && element.getClientRects().length && style.clipPath === "none") {
      const ink = element instanceof SVGElement ? style.fill : style.color;
      found.text = Math.min(found.text, contrast(parse(ink).slice(0, 3), behind(element)));
      found.texts += 1;
    }
    if (element.classList.contains("smooth")) {
      found.line = Math.min(found.line, contrast(parse(style.stroke).slice(0, 3), behind(element)));
    }
  }
  return found;
})()"""


@pytest.mark.parametrize("scheme, paper", [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 28)")])
def test_it_is_readable_in_either_scheme_and_on_a_phone(browser: Browser, seen: Path, scheme: str, paper: str) -> None:
    browser.open(seen, width=360, scheme=scheme)
    assert browser.run("getComputedStyle(document.body).backgroundColor") == paper
    found = browser.run(CONTRASTS)
    assert found["texts"] > 300
    assert found["text"] >= 4.5  # WCAG 2.1, 1.4.3
    assert found["line"] >= 3  # and 1.4.11
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run(
        "[...document.querySelectorAll('.plot')].every(s => s.getBoundingClientRect().right <= innerWidth)"
    )
    assert browser.trouble == []


def test_hostile_text_stays_text(browser: Browser, seen: Path) -> None:
    browser.open(seen)
    assert browser.run("document.scripts.length") == 2
    assert HOSTILE in browser.run("document.querySelector('table.runs').textContent")
    assert HOSTILE in browser.run("document.querySelector('#samples').textContent")
    assert not [event for event in browser.events if event.get("method") == "Page.javascriptDialogOpening"]
    # Nor would a script run that somehow came to stand in the page.
    browser.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    assert browser.run("window.ran") is None
    assert any("Content Security Policy" in json.dumps(one) for one in browser.trouble)


def test_what_assistive_technology_needs_is_there(browser: Browser, seen: Path) -> None:
    browser.open(seen)

    def nameless(what: str) -> str:
        return f"[...document.querySelectorAll('{what}')].filter(e => !e.getAttribute('aria-label')).length"

    assert browser.run(nameless(".plot, .area, .zoom button, [role=region], pre")) == 0
    assert (
        browser.run(
            "document.querySelectorAll('table thead th:not([scope=col]), table tbody th:not([scope=row])').length"
        )
        == 0
    )
    assert browser.run(
        "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.getAttribute('href')))"
    )
    assert browser.run("[...document.querySelectorAll('input')].every(i => i.labels.length === 1)")
    assert browser.run("document.querySelectorAll('.matrix td.seen span').length") > 100


def test_without_scripts_the_losses_are_drawn_all_the_same(browser: Browser, seen: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(seen)
        nodes = browser.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
        found = browser.call("DOM.querySelectorAll", nodeId=nodes, selector="noscript polyline.smooth")["nodeIds"]
        assert len(found) == 4
        box = browser.call("DOM.getBoxModel", nodeId=found[0])["model"]
        assert box["width"] > 300
        assert browser.trouble == []
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
