"""An upgrade of a small sentence-transformers model on docstrings: the tie against bridges and re-embedding.

Old model, successor without a tie (the paragon) and successor with `OldSpaceLoss` are trained here from scratch;
embedding, bridges and judgement are the commands of samespace. What `--work` holds already is not done again:

    python benchmarks/text_upgrade.py --work runs/text --write docs/results/text.md
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from docstrings import Pair, Part, installed, read_pairs
from samespace import VectorSet
from samespace.cli.main import run
from samespace.evaluate import Certificate
from samespace.files import write_text
from samespace.report.figures import save_comparison_plot

METRICS = ("nDCG@10", "Recall@10", "MRR@10")
TIE = {"matching_weight": 10.0, "contrast_weight": 0.5}
ABOUT = """\
# A text encoder upgraded, end to end

```text
python benchmarks/text_upgrade.py --work runs/text --write docs/results/text.md
```

Small sentence-transformers models, trained from scratch on text that packages ship: the first paragraph of a
docstring is a query, the rest of it the document that answers it. The modules are divided: no check pair is of a
module that was trained on, and 7 % of the modules stay aside. *Old*: one layer, half of the training pairs.
*Successor*: two layers, all pairs, another tokeniser, once with `MultipleNegativesRankingLoss` alone (*no tie*, the
paragon), once with [`OldSpaceLoss`](../howto/sentence-transformers-training.md) around it (*tied*), at its defaults
for three times as many steps, since its loss was still falling: after as many steps as the paragon it found less on
the old index (nDCG@10 19.7). Nothing was tuned on the check pairs. Judged by `samespace check --qrels` against old
queries on the old index; maps are those of `samespace bridge` at its defaults, learnt on the training texts of both
models. One seed: intervals are over queries and say nothing of other trainings.

"""
BATCH, LONGEST, SEED = 64, 32, 0


@dataclass(frozen=True)
class Model:
    """What is trained: layers of 128 dimensions, the words it knows, its share of the training pairs, how long."""

    layers: int
    vocabulary: int
    share: float
    epochs: int
    tied: bool = False
    lr: float = 1e-3


MODELS = {
    "old": Model(layers=1, vocabulary=3000, share=0.5, epochs=4),
    "paragon": Model(layers=2, vocabulary=5000, share=1.0, epochs=5),
    "new": Model(layers=2, vocabulary=5000, share=1.0, epochs=15, tied=True),
}


def untrained(model: Model, texts: Sequence[str], seed: int, folder: Path) -> Any:
    """A transformer with mean pooling and random weights, and a tokeniser of word pieces made from these texts."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(texts, vocab_size=model.vocabulary, show_progress=False)
    special = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces._tokenizer, **{f"{name}_token": piece for name, piece in special.items()}
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=pieces.get_vocab_size(), hidden_size=128, num_hidden_layers=model.layers, num_attention_heads=4,
        intermediate_size=256, max_position_embeddings=LONGEST, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    words = Transformer(str(folder), max_seq_length=LONGEST)
    return SentenceTransformer(modules=[words, Pooling(128, "mean"), Normalize()], device="cpu")


def train(name: str, pairs: Sequence[Pair], work: Path) -> None:
    """Train one of `MODELS` into `work/name`, with checkpoints after each epoch from which it carries on."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    from samespace.integrations.sentence_transformers import OldSpaceLoss

    model = MODELS[name]
    if (work / name).exists():
        return
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(pairs))[: round(model.share * len(pairs))])
    some = [pairs[row] for row in chosen]
    columns: dict[str, Any] = {"query": [pair.query for pair in some], "document": [pair.document for pair in some]}
    seed = 10 + list(MODELS).index(name)
    network = untrained(model, columns["query"] + columns["document"], seed, work / f"{name}-untrained")
    loss: torch.nn.Module = MultipleNegativesRankingLoss(network)
    if model.tied:
        old = VectorSet.load(work / "vectors" / "old-train").vectors.reshape(2, len(pairs), -1)
        columns["label"] = np.stack([old[0, chosen], old[1, chosen]], axis=1).tolist()
        loss = OldSpaceLoss(network, loss, **TIE)
    arguments = SentenceTransformerTrainingArguments(
        str(work / f"{name}-checkpoints"), num_train_epochs=model.epochs, per_device_train_batch_size=BATCH,
        learning_rate=model.lr, warmup_steps=100, weight_decay=0.01, seed=seed, report_to=[], use_cpu=True,
        save_strategy="epoch", save_total_limit=1, logging_steps=100, disable_tqdm=not sys.stderr.isatty(),
         dataloader_drop_last=True,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model=network, args=arguments, train_dataset=Dataset.from_dict(columns), loss=loss
    )
    trainer.train(resume_from_checkpoint=any((work / f"{name}-checkpoints").glob("checkpoint-*")))
    network.save(str(work / f"{name}-trained"), create_model_card=False)
    (work / f"{name}-trained").rename(work / name)


def write_texts(pairs: Sequence[Pair], part: Part, work: Path) -> None:
    """The texts of a part, queries and then documents, and for the check its judgements."""
    some = [pair for pair in pairs if pair.part == part]
    sides = {"q": [pair.query for pair in some], "d": [pair.document for pair in some]}
    for name, chosen in {part: "qd", f"{part}-queries": "q", f"{part}-documents": "d"}.items():
        rows = [
            {"id": f"{side}{number}", "text": text, "label": number}
            for side in chosen
            for number, text in enumerate(sides[side])
        ]
        write_text(work / "texts" / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_text(work / f"{part}.qrels", "".join(f"q{number} 0 d{number} 1\n" for number in range(len(some))))


def samespace(*arguments: object, out: Path | None = None) -> None:
    """Run a command of samespace here, unless what it writes is there; status 1 is a check's no."""
    if out is not None and out.exists():
        return
    told = [str(argument) for argument in arguments]
    print("$ samespace " + " ".join(told), flush=True)
    if (status := run(told)) > 1:
        sys.exit(status)


def embed(model: str, texts: str, work: Path) -> None:
    """Vectors of `texts/TEXTS.jsonl` as `vectors/MODEL-TEXTS`."""
    out = work / "vectors" / f"{model}-{texts}"
    source = work / "texts" / f"{texts}.jsonl"
    samespace("embed", f"sentence-transformers:{work / model}", source, "--out", out, "--quiet", out=out)


def mapped(direction: str, new: str, work: Path) -> Path:
    """The check's queries of a new model in the old space, or the old documents in the new one's."""
    vectors, bridge = work / "vectors", work / f"bridge-{direction}-{new}"
    ends = vectors / "old-train", vectors / f"{new}-train"
    samespace("bridge", *ends, "--direction", direction, "--out", bridge, "--quiet", out=bridge)
    source = vectors / (f"{new}-check-queries" if direction == "query" else "old-check-documents")
    out = vectors / f"{bridge.name}-mapped"
    samespace("bridge", "apply", bridge, source, "--out", out, "--quiet", out=out)
    return out


def judge(work: Path) -> dict[str, Certificate]:
    """A certificate of each way to serve a successor, all against old queries on the old index."""

    def queries(model: str) -> Path:
        return work / "vectors" / f"{model}-check-queries"

    def documents(model: str) -> Path:
        return work / "vectors" / f"{model}-check-documents"

    best = ["--paragon-queries", queries("paragon"), "--paragon-gallery", documents("paragon")]
    ways: dict[str, tuple[Path, Path]] = {
        "tied, old index": (queries("new"), documents("old")),
        "no tie, old index": (queries("paragon"), documents("old")),
        "no tie, queries mapped": (mapped("query", "paragon", work), documents("old")),
        "no tie, old index mapped": (queries("paragon"), mapped("gallery", "paragon", work)),
        "tied, old index mapped": (queries("new"), mapped("gallery", "new", work)),
        "tied, re-embedded": (queries("new"), documents("new")),
        "no tie, re-embedded": (queries("paragon"), documents("paragon")),
    }
    found = {}
    for way, (asking, stored) in ways.items():
        out = work / "certificates" / f"{way.replace(', ', '-').replace(' ', '-')}.json"
        out.parent.mkdir(exist_ok=True)
        sides = ["--queries", asking, "--gallery", stored, "--baseline", queries("old")]
        own = [] if stored == documents("old") else ["--baseline-gallery", documents("old")]
        metrics = [part for name in METRICS for part in ("--metric", name)]
        more = best if way == "tied, old index" else []
        judged = ["--qrels", work / "check.qrels", *metrics, "--quiet", "--json", out]
        samespace("check", *sides, *own, *more, *judged, out=out)
        found[way] = Certificate.load(out)
    return found


def table(found: dict[str, Certificate]) -> list[str]:
    """A row for each way: values in percent, and the interval of the gain over the old model."""
    today = found["tied, old index"]
    lines = [f"| way | {' | '.join(METRICS)} | compatible |", f"|---|{'---|' * len(METRICS)}---|"]
    lines.append(f"| old model, old index | {' | '.join(f'{100 * today[name].old:.1f}' for name in METRICS)} | |")
    for way, certificate in found.items():
        cells = []
        for name in METRICS:
            low, high = (100 * end for end in certificate[name].difference)
            cells.append(f"{100 * certificate[name].cross:.1f} ({low:+.1f} … {high:+.1f})")
        lines.append(f"| {way} | {' | '.join(cells)} | {'yes' if certificate.compatible else 'no'} |")
    return lines


def main() -> None:
    """Train, embed, map, judge, and write the tables below what stands in the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="A folder; what it holds already is not done again.")
    parser.add_argument("--write", type=Path, help="A page; what stands above '## Result' stays.")
    parser.add_argument("--tied-epochs", type=int, default=15, help="How long the tied successor is trained.")
    given = parser.parse_args()
    MODELS["new"] = replace(MODELS["new"], epochs=given.tied_epochs)
    torch.set_num_threads(1)
    work, began = given.work, time.process_time()
    work.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs(work / "pairs.jsonl")
    training = [pair for pair in pairs if pair.part == "train"]
    (work / "texts").mkdir(exist_ok=True)
    for part in ("train", "check"):
        write_texts(pairs, part, work)
    for name in MODELS:
        train(name, training, work)
        for texts in ("train", "check-queries", "check-documents"):
            embed(name, texts, work)
    found = judge(work)
    count = sum(pair.part == "check" for pair in pairs)
    packages = ", ".join(f"{name} {number}" for name, number in installed().items())
    text = "\n".join(
        [
            "## Result",
            "",
            f"{len(training):,} training pairs, {count:,} check queries on as many documents, seed {SEED}. In percent; "
            "in brackets the 95 % interval of the gain over the old model on the old index.",
            "",
            *table(found),
            "",
            f"Texts of {packages}. {(time.process_time() - began) / 60:.1f} minutes of processor time, "
            f"{platform.machine()}, one thread.",
            "",
        ]
    )
    print(text)
    if given.write is not None:
        above = given.write.read_text(encoding="utf-8").partition("## Result")[0] if given.write.exists() else ABOUT
        save_comparison_plot(found, given.write.with_suffix(".png"))
        write_text(given.write, f"{above}{text}\n![gains]({given.write.stem}.png)\n")


if __name__ == "__main__":
    main()
