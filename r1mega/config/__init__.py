"""Recipes: frozen, strict, torch-free."""

from r1mega.config.error import Mistake, UserError
from r1mega.config.layout import LayoutConfig
from r1mega.config.loader import Resolved, dump_recipe, load_recipe, resolve_recipe
from r1mega.config.model import ModelConfig
from r1mega.config.recipe import Recipe

__all__ = [
    "LayoutConfig", "Mistake", "ModelConfig", "Recipe", "Resolved", "UserError", "dump_recipe", "load_recipe",
    "resolve_recipe",
]
