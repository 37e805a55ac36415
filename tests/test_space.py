from __future__ import annotations

from dataclasses import dataclass

import pytest

from samespace.errors import InputError, SpaceError
from samespace.space import Space, require_comparable

OLD = Space(weights="a" * 64, preprocessing="resize 32", dim=64, normalized=True, name="v1")
NEW = Space(weights="b" * 64, preprocessing="resize 32", dim=64, normalized=True, name="v2")


@dataclass
class Vouch:
    old: Space
    new: Space

    def links(self, old: Space, new: Space) -> bool:
        return (old, new) == (self.old, self.new)


@pytest.mark.parametrize(
    "changed",
    [
        {"weights": "c" * 64},
        {"preprocessing": "resize 48"},
        {"dim": 128},
        {"normalized": False},
    ],
)
def test_whatever_decides_a_vector_changes_the_identity(changed):
    other = Space(**{**{key: value for key, value in OLD.to_dict().items() if key != "id"}, **changed})
    assert other != OLD
    assert other.id != OLD.id


def test_the_name_is_no_part_of_the_identity():
    renamed = Space(weights=OLD.weights, preprocessing=OLD.preprocessing, dim=64, normalized=True, name="renamed")
    assert renamed == OLD
    assert renamed.id == OLD.id


def test_round_trip_and_tampering():
    assert Space.from_dict(OLD.to_dict()) == OLD
    with pytest.raises(InputError, match="does not fit its fields"):
        Space.from_dict({**OLD.to_dict(), "dim": 32})
    with pytest.raises(InputError, match="'dim' should be a int"):
        Space.from_dict({**OLD.to_dict(), "dim": "64"})


def test_unlike_spaces_are_refused_unless_a_certificate_links_them():
    require_comparable(OLD, OLD)
    with pytest.raises(SpaceError, match=f"expected query vectors of space {OLD.id}.*got {NEW.id}.*samespace check"):
        require_comparable(NEW, OLD)
    require_comparable(NEW, OLD, Vouch(old=OLD, new=NEW))
    with pytest.raises(SpaceError, match="does not allow"):
        require_comparable(OLD, NEW, Vouch(old=OLD, new=NEW))


def test_an_undeclared_space_is_refused():
    with pytest.raises(SpaceError, match="query vectors declare no space"):
        require_comparable(None, OLD)
    with pytest.raises(SpaceError, match="gallery vectors declare no space"):
        require_comparable(OLD, None)
