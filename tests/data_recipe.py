"""The smallest recipe with a given data section, for tests of the doors before training."""

from guie.recipe import HEAD, Data, Embed, Member, Model, Optim, Recipe, Setting, Stage, Stages, Start


def recipe_around(data: Data) -> Recipe:
    """A recipe with this data section and one stage, which no test trains."""
    stage = Stage(
        "s1",
        trains="head",
        image_px=32,
        start=Start(fresh=HEAD),
        optim=Optim(n_epochs=1, batch_size=4, lr=1e-3),
    )
    embed = Embed((Setting("a", (Member("s1", 32),)),))
    return Recipe("t", data, Model("timm", "x"), Stages(head=(stage,)), embed).validate()
