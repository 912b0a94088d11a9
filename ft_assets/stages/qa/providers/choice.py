"""Which provider a model's requests go to."""

from ft_assets.stages.qa.money import Price
from ft_assets.stages.qa.prompt import Recipe
from ft_assets.stages.qa.send import Call


def provider_of(model: str) -> str:
    """The provider of a `provider:model`; "" for a Claude model, which has none in its name."""
    return model.partition(":")[0] if ":" in model else ""


def call_of(recipe: Recipe, base_url: str | None, price: Price) -> Call:
    """The function that sends requests to the model. Raises UserError if it cannot, for example without
    a key.
    """
    if provider_of(recipe.model):
        from ft_assets.stages.qa.providers.langchain import langchain_call

        return langchain_call(base_url, recipe)
    from ft_assets.stages.qa.providers.claude import claude_call

    return claude_call(base_url, price)
