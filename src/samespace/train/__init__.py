"""Compatible training: the recipe, the task, the loop.

- `recipe`, `recipe_file`, `sections`: the file that decides what a training gives;
- `run`: a whole training; `loop`: its epochs and steps; `task`: what a step computes; `optim`: how it learns;
- `compatibility`, `methods/`: from a name to a loss; `old_side`, `old_views`: what it needs of the old model;
- `checkpoint`, `interruption`, `unreadable`: from where it carries on, what may end it, images it could not read;
- `validation`, `measurement`: the model beside the old one while it trains; `logs`: where that goes;
- `dry_run`, `trial`: what can be told before; `distributed`, `memory`: several processes, and what they keep.
"""

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
