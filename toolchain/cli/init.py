"""The command that writes a recipe from a model and images."""

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
    from toolchain.cli.pages import build_page
    from toolchain.init.trial_build import build_trial
    from toolchain.views.bundle import bundle_summary

    bundle = build_trial(out, target)
    print(build_page(bundle.manifest), end="\n\n")
    print(as_json({"init": proposal, "try": bundle_summary(bundle)}))
