"""The pre-training methods by name: every file here that exports RECIPE."""

import importlib
import pkgutil

from core.errors import ConfigError
from trainers.recipes.recipe import Recipe


def _find_recipes() -> dict[str, Recipe]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "recipe")
    recipes = [importlib.import_module(f"{__name__}.{name}").RECIPE for name in names]
    return {recipe.name: recipe for recipe in recipes}


RECIPES: dict[str, Recipe] = _find_recipes()


def find_recipe(name: str) -> Recipe:
    """A recipe by name; ConfigError lists the known ones."""
    if name not in RECIPES:
        raise ConfigError(f"There is no recipe {name!r}; expected one of {', '.join(RECIPES)}.")
    return RECIPES[name]
