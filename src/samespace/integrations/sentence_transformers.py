"""For trainings with sentence-transformers: a loss that keeps the old space, and an evaluator that judges it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor, nn

from samespace.errors import InputError
from samespace.evaluate.relevance import Judgements, check_judged
from samespace.losses.pairs import PairsLoss
from samespace.vectors import VectorSet

try:
    from sentence_transformers.base.evaluation import BaseEvaluator
except ImportError:
    try:  # before version 6
        from sentence_transformers.evaluation import SentenceEvaluator as BaseEvaluator
    except ImportError:  # an evaluator then says what is missing
        BaseEvaluator = object

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from samespace.evaluate import Certificate


class OldSpaceLoss(nn.Module):
    """A model's own loss plus `samespace.losses.PairsLoss`, which keeps new queries comparable with old documents.

    | columns of the data set | label column |
    |---|---|
    | query, document | (B, 2, old_dim): the old model's vectors of both |
    | query, document, hard negative, … | (B, N, old_dim) |
    | text (`contrast_weight=0`) | (B, old_dim) or (B, 1, old_dim) |

    Args:
        model: the new model.
        loss: its own loss, such as `MultipleNegativesRankingLoss(model)`, which must need no labels; None trains
            towards the old space alone.
        matching_weight: see `PairsLoss`.
        contrast_weight: see `PairsLoss`.
        temperature: of the contrast.
        prefix: compare the leading values of a wider new model.

    Example::

        old = SentenceTransformer("runs/v1")
        def add_old(batch):
            both = [old.encode_query(batch["query"]), old.encode_document(batch["document"])]
            return {"label": np.stack(both, axis=1)}

        pairs = pairs.map(add_old, batched=True)
        loss = OldSpaceLoss(model, MultipleNegativesRankingLoss(model))
        SentenceTransformerTrainer(model=model, train_dataset=pairs, loss=loss).train()
    """

    def __init__(
        self,
        model: SentenceTransformer,
        loss: nn.Module | None = None,
        *,
        matching_weight: float = 10.0,
        contrast_weight: float = 0.5,
        temperature: float = 0.05,
        prefix: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.old_space = PairsLoss(
            matching_weight=matching_weight, contrast_weight=contrast_weight, temperature=temperature, prefix=prefix
        )

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None) -> Tensor:
        """Loss of a batch.

        Raises:
            InputError: there is no label column, or its shape does not fit.
        """
        if labels is None:
            raise InputError("there are no old vectors: put them into the data set's column 'label'")
        features = list(sentence_features)
        old = labels[:, None] if labels.dim() == 2 and len(features) == 1 else labels
        embeddings = [self.model(dict(column))["sentence_embedding"] for column in features]
        value: Tensor = self.old_space(embeddings, old)
        if self.loss is None:
            return value
        if hasattr(self.loss, "compute_loss_from_embeddings"):
            own: Tensor = cast(Any, self.loss).compute_loss_from_embeddings(embeddings, None)
        else:
            own = self.loss(features, None)
        return own + value

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {
            "loss": type(self.loss).__name__ if self.loss is not None else None,
            "matching_weight": self.old_space.matching_weight,
            "contrast_weight": self.old_space.contrast_weight,
            "temperature": self.old_space.contrast.temperature,
        }


class CompatibilityEvaluator(BaseEvaluator):  # type: ignore[misc]
    """How well the model's queries search the old model's documents, while it trains.

    Values are, for each metric, of old queries on the old index (`old`), new queries on the old index (`cross`) and,
    with `new_index`, new queries on new documents (`new`); `gain` is cross − old and `gain_low` the lower end of its
    bootstrap interval, above 0 where the model is compatible. `primary_metric` is the cross value of the first metric.

    Args:
        queries: text by query id.
        corpus: text by document id.
        relevant: relevant document ids, or grades by document id, by query id.
        old_queries: (Q, old_dim) the old model's vectors of the queries, in their order.
        old_corpus: (D, old_dim) the old model's vectors of the documents, in their order.
        metrics: names, nDCG@10 by default.
        new_index: embed the corpus with the new model as well, and measure `new`.
        prefix: compare the leading values of a wider new model.
        name: before the names of values.
        batch_size: of encoding.
        replicates: bootstrap resamples.

    Attributes:
        certificate: of the last evaluation; None before the first.
        primary_metric: name of the value that a best model is chosen by.

    Raises:
        InputError: vectors are not one for each text.
    """

    def __init__(
        self,
        queries: Mapping[str, str],
        corpus: Mapping[str, str],
        relevant: Mapping[str, Iterable[str] | Mapping[str, int]],
        *,
        old_queries: Any,
        old_corpus: Any,
        metrics: Sequence[str] = ("nDCG@10",),
        new_index: bool = False,
        prefix: bool = False,
        name: str = "",
        batch_size: int = 64,
        replicates: int = 500,
    ) -> None:
        if BaseEvaluator is object:
            raise InputError("sentence-transformers is missing: pip install 'samespace[sentence-transformers]'")
        super().__init__()
        self.queries, self.corpus = dict(queries), dict(corpus)
        self.old_queries = VectorSet.from_arrays(old_queries, ids=list(self.queries), name="old queries")
        self.old_corpus = VectorSet.from_arrays(old_corpus, ids=list(self.corpus), name="old corpus")
        self.qrels = Judgements.of(
            {
                query: dict(found) if isinstance(found, Mapping) else dict.fromkeys(found, 1)
                for query, found in relevant.items()
            },
            "relevant",
        )
        self.metrics, self.new_index, self.prefix = list(metrics), new_index, prefix
        self.name, self.batch_size, self.replicates = name, batch_size, replicates
        self.certificate: Certificate | None = None
        self.primary_metric = "_".join(part for part in (name, f"cross_{self.metrics[0]}") if part)

    def __call__(
        self, model: SentenceTransformer, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Values by name; `output_path` gets the certificate."""
        self.certificate = check_judged(
            queries=self._encoded(model, "encode_query", self.queries),
            gallery=self.old_corpus,
            baseline=self.old_queries,
            new_gallery=self._encoded(model, "encode_document", self.corpus) if self.new_index else None,
            qrels=self.qrels,
            metrics=self.metrics,
            prefix=self.prefix,
            replicates=self.replicates,
        )
        values: dict[str, float] = {}
        for metric, result in self.certificate.metrics.items():
            named = {"old": result.old, "cross": result.cross, "new": result.new, "gain": result.absolute_gain}
            values |= {f"{test}_{metric}": value for test, value in named.items() if value is not None}
            values[f"gain_low_{metric}"] = result.difference[0]
        values = self.prefix_name_to_metrics(values, self.name)
        self.store_metrics_in_model_card_data(model, values, epoch, steps)
        if output_path is not None:
            from pathlib import Path

            told = "" if epoch == -1 else f"_epoch{epoch:g}"
            file = "_".join(["compatibility", self.name] if self.name else ["compatibility"])
            self.certificate.save(Path(output_path) / f"{file}{told}{'' if steps == -1 else f'_step{steps}'}.json")
        return values

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"metrics": self.metrics, "new_index": self.new_index}

    def _encoded(self, model: SentenceTransformer, how: str, texts: dict[str, str]) -> VectorSet:
        encode = getattr(model, how, model.encode)
        vectors = encode(list(texts.values()), batch_size=self.batch_size, convert_to_numpy=True)
        return VectorSet.from_arrays(np.asarray(vectors, dtype=np.float32), ids=list(texts), name=how[7:])
