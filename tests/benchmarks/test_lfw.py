from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samespace.benchmarks.lfw import LFW, accuracy
from samespace.errors import InputError
from samespace.metrics import tar_at_far
from samespace.scoring.units import unit_rows

LINES = [
    "2 2",
    "Ann 1 2",
    "Bob\t1\t3",
    "Ann 1 Bob 1",
    "Bob 2 Cy_D 1",
    "Cy_D 1 2",
    "Ann 2 3",
    "Ann 1 Cy_D 2",
    "Bob 1 Cy_D 1",
]


def pairs(folder: Path, lines: list[str] = LINES) -> Path:
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder / "pairs.txt"


def reference(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> float:
    shares = []
    for number in np.unique(fold):
        others, mine = fold != number, fold == number
        best = None
        for threshold in sorted([-np.inf, *scores]):
            right = ((scores[others] > threshold) == same[others]).sum()
            if best is None or right > best[0]:
                best = right, threshold
        shares.append(((scores[mine] > best[1]) == same[mine]).mean())
    return float(np.mean(shares))


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 5), st.integers(2, 12))
def test_accuracy_is_its_definition_with_ties_and_repeated_pairs(seed, folds, each, levels):
    generator = np.random.default_rng(seed)
    fold = np.repeat(np.arange(folds), 2 * each)
    same = generator.random(len(fold)) < 0.5
    scores = generator.integers(0, levels, len(fold)) / levels - 0.3 * ~same
    weights = np.stack([np.ones(len(fold), np.int64), generator.integers(1, 4, len(fold))])
    found = accuracy(scores, same, fold, weights)
    assert found[0] == pytest.approx(reference(scores, same, fold), abs=1e-12)
    again = np.repeat(np.arange(len(fold)), weights[1])
    assert found[1] == pytest.approx(reference(scores[again], same[again], fold[again]), abs=1e-12)


def test_a_pair_that_is_not_drawn_has_no_say():
    scores, same = np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.3]), np.array([True, False, True, False, False, True])
    fold = np.array([0, 0, 1, 1, 0, 1])
    weights = np.array([[1, 1, 1, 1, 0, 0]])
    assert accuracy(scores, same, fold, weights)[0] == reference(scores[:4], same[:4], fold[:4])
    assert np.isnan(accuracy(scores, same, fold, np.zeros((1, 6), np.int64))[0])


def test_the_list_is_read_as_published(tmp_path):
    found = LFW.read(pairs(tmp_path))
    assert found.same.tolist() == [True, True, False, False] * 2
    assert found.fold.tolist() == [0] * 4 + [1] * 4
    images = [(str(found.ids[a]), str(found.ids[b])) for a, b in zip(found.first, found.second, strict=True)]
    assert images[1] == ("Bob/Bob_0001.jpg", "Bob/Bob_0003.jpg")
    assert images[3] == ("Bob/Bob_0002.jpg", "Cy_D/Cy_D_0001.jpg")
    assert (found.identities, found.data["genuine_pairs"], found.data["impostor_pairs"]) == (3, 4, 4)
    assert LFW.read(tmp_path).ids.tolist() == found.ids.tolist()


def test_values_are_those_of_the_pairs_and_people_weigh_them(tmp_path):
    found = LFW.read(pairs(tmp_path))
    generator = np.random.default_rng(2)
    one, other = (unit_rows(generator.standard_normal((len(found.ids), 3))) for _ in range(2))
    scores = (one[found.first].astype(np.float64) * other[found.second]).sum(axis=1)
    ann, bob, cy = 2, 1, 0
    values = found.run(one, other).values(np.array([[1, 1, 1], [ann, bob, cy]]), ["accuracy", "TAR@FAR=1e-1"])
    assert values["accuracy"][0] == pytest.approx(reference(scores, found.same, found.fold))
    assert values["TAR@FAR=1e-1"][0] == tar_at_far(scores[found.same], scores[~found.same], 0.1)
    assert found.run(one, other).genuine() == pytest.approx(scores[found.same], abs=1e-6)
    # Ann twice and Bob once: pairs of Ann alone twice, of Ann and Bob twice, of Cy never
    drawn = np.array([0, 0, 1, 2, 2, 5, 5])
    genuine, impostor = drawn[found.same[drawn]], drawn[~found.same[drawn]]
    assert values["TAR@FAR=1e-1"][1] == tar_at_far(scores[genuine], scores[impostor], 0.1)
    assert np.isnan(found.run(one, other).values(np.array([[0, 0, 3]]), ["TAR@FAR=1e-1"])["TAR@FAR=1e-1"][0])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["10"], "two numbers"),
        ([], "two numbers"),
        (["1 2", *LINES[1:5]], "two or more"),
        (LINES[:-1], "8 lines; got 7"),
        ([*LINES, "Ann 1 2"], "8 lines; got 9"),
        ([*LINES[:3], "Ann 1 2", *LINES[4:]], r"pairs.txt:4: expected 'name number name number'.*got 'Ann 1 2'"),
        ([LINES[0], "Ann 1 Bob 2", *LINES[2:]], r"pairs.txt:2: expected 'name number number'"),
        ([LINES[0], "Ann one 2", *LINES[2:]], r"pairs.txt:2"),
    ],
)
def test_a_list_that_does_not_fit_gets_one_line(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        LFW.read(pairs(tmp_path, lines))


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(InputError, match=r"pairs\.txt does not exist"):
        LFW.read(tmp_path)


@pytest.mark.data
def test_the_published_list_has_six_thousand_pairs_in_ten_folds(real_data, tmp_path):
    with np.load(real_data("protocolmeta.npz")) as archive:
        meta = dict(archive)
    lines = ["10\t300"]
    columns = (meta[f"lfw_pairs_{name}"] for name in ("name", "num", "same"))
    for (one, other), (first, second), same in zip(*columns, strict=True):
        lines.append(f"{one}\t{first}\t{second}" if same else f"{one}\t{first}\t{other}\t{second}")
    found = LFW.read(pairs(tmp_path, lines))
    assert found.fold.tolist() == meta["lfw_pairs_fold"].tolist()
    assert found.same.tolist() == (meta["lfw_pairs_same"] == 1).tolist()
    assert (len(found.ids), found.identities) == (7701, 4281)
