"""A recipe: what is trained, on what and how, as data that is validated before anything runs.

`sections` defines each setting once, with its type, limits, default and meaning; `recipe` puts the sections together; `load`
reads YAML files and `dotted.key=value` overrides and reports every problem at once; `renamed` reads the keys of earlier
versions; `operations` reads short forms of augmentations such as `rotate(15)@0.5`. Components take their own section.
"""

from inkfold.config.load import dump_recipe, load_recipe, validate_recipe
from inkfold.config.recipe import EnsembleRecipe, Recipe

__all__ = ["EnsembleRecipe", "Recipe", "dump_recipe", "load_recipe", "validate_recipe"]
