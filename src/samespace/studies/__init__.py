"""The papers' tables, and our own, as studies: declared once, carried out on whatever labelled images the user has."""

from samespace.studies.bct import bct
from samespace.studies.beyond import beyond
from samespace.studies.plan import Plan, require_legal, trainings
from samespace.studies.run import Reproduced, default_workers, reproduce
from samespace.studies.settings import Settings, load_settings, shipped
from samespace.studies.study import Study
from samespace.studies.taken import Taken, from_each, takeable
from samespace.studies.unibct import unibct

__all__ = [
    "Plan",
    "Reproduced",
    "Settings",
    "Study",
    "Taken",
    "bct",
    "beyond",
    "default_workers",
    "from_each",
    "load_settings",
    "reproduce",
    "require_legal",
    "shipped",
    "takeable",
    "trainings",
    "unibct",
]
