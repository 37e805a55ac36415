"""The loss and the evaluator for sentence-transformers, on a model of word vectors made here."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import pytest
import torch

from samespace.errors import InputError
from samespace.evaluate import Certificate
from samespace.losses import PairsLoss

if importlib.util.find_spec("sentence_transformers") is None:
    pytest.skip(
        "sentence-transformers is not installed: pip install 'samespace[sentence-transformers]'",
        allow_module_level=True,
    )

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = [f"w{number}" for number in range(40)]


def model(seed: int):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"?": 0} | {word: row + 1 for row, word in enumerate(WORDS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = torch.randn(41, 16, generator=torch.Generator().manual_seed(seed)).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu")


@pytest.fixture(scope="module")
def pairs() -> dict[str, list[str]]:
    """A query holds two words of its document's four, and one of any."""
    random = np.random.default_rng(0)
    documents = [random.choice(WORDS, 4, replace=False) for _ in range(60)]
    return {
        "query": [" ".join([*words[:2], random.choice(WORDS)]) for words in documents],
        "document": [" ".join(words) for words in documents],
    }


@pytest.fixture(scope="module")
def old_vectors(pairs) -> np.ndarray:
    old = model(0)
    return np.stack([old.encode(pairs["query"]), old.encode(pairs["document"])], axis=1)


def features(one, pairs):
    tokenize = getattr(one, "preprocess", None) or one.tokenize
    return [tokenize(pairs[column][:8]) for column in ("query", "document")]


def test_the_loss_is_the_models_own_plus_the_tie(pairs, old_vectors):
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    from samespace.integrations.sentence_transformers import OldSpaceLoss

    new, old = model(1), torch.from_numpy(old_vectors[:8])
    own = MultipleNegativesRankingLoss(new)
    embeddings = [new(dict(one))["sentence_embedding"] for one in features(new, pairs)]
    tie = PairsLoss(matching_weight=2.0)(embeddings, old)
    torch.testing.assert_close(OldSpaceLoss(new, matching_weight=2.0)(features(new, pairs), old), tie)
    both = OldSpaceLoss(new, own, matching_weight=2.0)(features(new, pairs), old)
    torch.testing.assert_close(both, tie + own(features(new, pairs), None))

    class Plain(torch.nn.Module):
        def forward(self, sentence_features, labels):
            return own(sentence_features, labels)

    torch.testing.assert_close(OldSpaceLoss(new, Plain(), matching_weight=2.0)(features(new, pairs), old), both)
    with pytest.raises(InputError, match="column 'label'"):
        OldSpaceLoss(new)(features(new, pairs), None)
    one = OldSpaceLoss(new, contrast_weight=0)(features(new, pairs)[:1], old[:, 0])
    torch.testing.assert_close(one, PairsLoss(contrast_weight=0)(embeddings[:1], old[:, :1]))


def evaluator_of(pairs, old_vectors, **options):
    from samespace.integrations.sentence_transformers import CompatibilityEvaluator

    rows = range(len(pairs["query"]))
    return CompatibilityEvaluator(
        {f"q{row}": pairs["query"][row] for row in rows},
        {f"d{row}": pairs["document"][row] for row in rows},
        {f"q{row}": {f"d{row}"} for row in rows},
        old_queries=old_vectors[:, 0],
        old_corpus=old_vectors[:, 1],
        replicates=100,
        **options,
    )


def test_the_evaluator_gives_flat_values_and_a_certificate(pairs, old_vectors, tmp_path):
    evaluator = evaluator_of(pairs, old_vectors, metrics=["nDCG@10", "MRR@10"], new_index=True, name="docs")
    values = evaluator(model(0), str(tmp_path), epoch=1, steps=50)
    assert evaluator.primary_metric == "docs_cross_nDCG@10"
    assert values[evaluator.primary_metric] == pytest.approx(values["docs_old_nDCG@10"], abs=1e-6)
    assert values["docs_new_MRR@10"] == pytest.approx(values["docs_old_MRR@10"], abs=1e-6)
    assert values["docs_gain_nDCG@10"] == pytest.approx(0, abs=1e-6)
    assert all(isinstance(value, float) for value in values.values())
    saved = Certificate.load(tmp_path / "compatibility_docs_epoch1_step50.json")
    assert saved == evaluator.certificate
    assert not saved.compatible
    unrelated = evaluator_of(pairs, old_vectors)(model(1))
    assert unrelated["cross_nDCG@10"] < 0.3 < unrelated["old_nDCG@10"]


def test_a_training_with_the_trainer_becomes_compatible(pairs, old_vectors, tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install datasets")
    pytest.importorskip("accelerate", reason="accelerate, which the trainer needs, is not installed")
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    from samespace.integrations.sentence_transformers import OldSpaceLoss

    new = model(1)
    evaluator = evaluator_of(pairs, old_vectors)
    before = evaluator(new)
    trainer = SentenceTransformerTrainer(
        model=new,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path), num_train_epochs=20, per_device_train_batch_size=20, learning_rate=0.1,
            report_to=[], save_strategy="no", eval_strategy="no", logging_strategy="no", disable_tqdm=True, seed=0,
            use_cpu=True,
        ),
        train_dataset=datasets.Dataset.from_dict({**pairs, "label": old_vectors.tolist()}),
        loss=OldSpaceLoss(new, MultipleNegativesRankingLoss(new)),
        evaluator=evaluator,
    )  # fmt: skip
    trainer.train()
    after = evaluator(new)
    assert before["cross_nDCG@10"] < 0.3
    assert after["gain_nDCG@10"] > 0
    assert evaluator.certificate.compatible
