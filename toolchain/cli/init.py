"""The commands that find recipes: one for a model and images, and faster ones by measuring."""

from pathlib import Path

from toolchain.cli.choices import Target


def init(
    model: str,
    *,
    data: Path,
    out: Path = Path("recipe.toml"),
    weights: Path | None = None,
    weights_key: str | None = None,
    yes: bool = False,
    try_: bool = False,
    target: Target = "openvino",
) -> None:
    """Write a recipe: recognize the network, find its input size and normalization on labelled images, plan the steps.

    Overwrites nothing. At a terminal it asks what it cannot find out.

    Args:
        model: a checkpoint (.pth, .pt, .ckpt), a .onnx or .pt2 file, torchvision:NAME, or FILE.py:FUNCTION
        data: a folder with a folder of images per class, or train/ and test/ with those; or a .csv or .npz
        out: the recipe to write
        weights: the checkpoint of FILE.py:FUNCTION or torchvision:NAME
        weights_key: which of several sets of weights in the checkpoint, by its key or prefix
        yes: ask nothing, take every default
        try_: build it at once, with a tiny budget: one epoch, few images, fp32 and int8
        target: the engine that --try builds for
    """
    from toolchain.init.propose import InitRequest, propose_recipe
    from toolchain.init.questions import asker
    from toolchain.views.bundle import as_json

    proposal = propose_recipe(InitRequest(model, data, out, weights, weights_key), asker(yes))
    print(proposal.text, end="\n")
    if not try_:
        print(as_json(proposal))
        return
    from toolchain.cli.pages import built_page, shorten_path
    from toolchain.init.trial_build import build_trial
    from toolchain.report.build_report import report_build
    from toolchain.views.bundle import bundle_summary

    bundle = build_trial(out, target)
    print(built_page(bundle, shorten_path(report_build(bundle))), end="\n\n")
    print(as_json({"init": proposal, "try": bundle_summary(bundle)}))


def search(
    recipe: Path,
    *,
    target: Target = "openvino",
    hours: float = 1.0,
    max_accuracy_loss: float | None = None,
    storage: str | None = None,
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Look for recipes that are faster on this machine and lose little accuracy; write, build and compare the best.

    Cuts and times candidates first, trains only those near the front of latency and accuracy, longer the better they
    are. Ends when the time is over; ended before that, the same command goes on. [search] in the recipe says what is
    varied.

    Args:
        recipe: a TOML file; see recipes/
        target: the engine to measure on
        hours: of the whole search, builds at the end and earlier runs included
        max_accuracy_loss: points of accuracy that a recipe may lose; by default what the recipe says
        storage: where trials are kept: an SQLite file, or a database's URL, which several workers may share; by default
            search.sqlite in .toolchain/
        out: the folder of the recipes that are found, the page and the plot; by default .toolchain/search/NAME
        seed: of the sampler
    """
    from toolchain.job.early_checks import check_recipe

    check_recipe(recipe)
    from toolchain.cli.words import require_budget
    from toolchain.report.search_page import write_search
    from toolchain.search.run import SearchRequest
    from toolchain.search.run import search as find_recipes
    from toolchain.views.bundle import as_json
    from toolchain.views.search import search_page, search_summary

    require_budget(hours, max_accuracy_loss, seed)
    record = find_recipes(SearchRequest(recipe, target, hours, max_accuracy_loss, storage, out, seed))
    written = write_search(record)
    print(search_page(record), end="\n\n")
    print(as_json(search_summary(record, written)))
