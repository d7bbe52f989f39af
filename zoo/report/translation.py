"""How good translations are, as everybody counts it."""

from collections.abc import Sequence


def scores(written: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Lines with BLEU, BLEU without regard to case, and chrF2, each with the signature of sacrebleu (Post 2018)."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    lines = []
    for metric in (BLEU(), BLEU(lowercase=True), CHRF()):
        score = metric.corpus_score(list(written), [list(wanted)])
        lines.append(f"{score.name} {score.score:.2f}  {metric.get_signature()}")
    return lines
