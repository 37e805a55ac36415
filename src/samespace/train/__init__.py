"""Compatible training: the recipe, the task, the loop."""

from samespace.train.interruption import Interrupted
from samespace.train.loop import train
from samespace.train.old_views import embed_views
from samespace.train.recipe import Recipe
from samespace.train.recipe_file import dump_recipe, load_recipe, parse_recipe
from samespace.train.run import Trained, flushed_denormals, run
from samespace.train.task import CompatibleTask

__all__ = [
    "CompatibleTask",
    "Interrupted",
    "Recipe",
    "Trained",
    "dump_recipe",
    "embed_views",
    "flushed_denormals",
    "load_recipe",
    "parse_recipe",
    "run",
    "train",
]
