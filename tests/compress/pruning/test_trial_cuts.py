"""Models whose channels Torch-Pruning misreads: what cannot be pruned stays whole, and the rest is pruned rightly."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.compress.nets import PREPROCESSING, context
from tests.messages import calling
from toolchain.compress.step import CompressedModel
from toolchain.compress.steps.prune_channels import PruneChannels
from toolchain.errors import RecipeError
from toolchain.models.check import class_count


class Shuffled(nn.Module):
    """A ShuffleNet's unit: half of the channels pass, the others are convolved, then they are interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inside, self.outside = nn.Conv2d(3, 32, 3), nn.Conv2d(16, 32, 1), nn.Conv2d(32, 16, 1)
        self.last, self.head = nn.Conv2d(32, 64, 1), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).relu().chunk(2, dim=1)
        x = torch.cat((left, self.outside(self.inside(right).relu())), 1)
        count, channels, height, width = x.shape
        x = x.view(count, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        x = x.view(count, channels, height, width)
        answer: Tensor = self.head(self.last(x).relu().mean((2, 3)))
        return answer


class Attending(nn.Module):
    """A ViT of one layer: its embedding is bound to its heads and to parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.layer = nn.Conv2d(3, 32, 4, 4), nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.place, self.head = nn.Parameter(torch.randn(1, 4, 32)), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).reshape(x.shape[0], 32, 4).permute(0, 2, 1) + self.place
        answer: Tensor = self.head(self.layer(tokens).mean(1))
        return answer


def pruned(module: nn.Module, folder: Path, **options: object) -> tuple[nn.Module, str]:
    """The pruned model, and the line that says what was left whole."""
    said: list[str] = []
    step = PruneChannels(0.5, round_to=8, **options)  # type: ignore[arg-type]  # of one step, as a test gives them
    with calling(said.append):
        after = step.apply(CompressedModel(module.eval()), context(folder)).module
    assert class_count(after, PREPROCESSING) == 4
    return after, next((line for line in said if "left whole" in line), "")


def test_shuffled_channels_stay_and_the_others_go(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Shuffled()
    with torch.no_grad():  # of `inside` and `last` a half is not worth anything: what is pruned answers alike
        for layer, first in ((module.inside, 0), (module.last, 1)):
            for parameter in layer.parameters():
                parameter[first::2] = 0
    after, line = pruned(module, tmp_path)
    widths = {name: layer.out_channels for name, layer in after.named_children() if isinstance(layer, nn.Conv2d)}
    assert widths == {"stem": 32, "inside": 16, "outside": 16, "last": 32}
    assert line.startswith("  left whole, since they cannot be pruned: outside (")
    image = torch.randn(2, 3, 8, 8)
    assert torch.allclose(after(image), module(image), atol=1e-5)


def test_an_embedding_of_attention_stays_and_the_perceptron_is_pruned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    after, line = pruned(Attending(), tmp_path)
    layer = after.layer
    assert isinstance(layer, nn.TransformerEncoderLayer)
    assert (layer.linear1.out_features, layer.linear2.in_features, layer.linear2.out_features) == (32, 32, 32)
    assert line.startswith("  left whole, since they cannot be pruned: ")


def test_a_recipe_may_refuse_what_cannot_be_pruned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(RecipeError, match=r"cannot be pruned: outside \(.*\); leave them whole: unprunable = \"keep"):
        pruned(Shuffled(), tmp_path, unprunable="refuse")


def test_the_librarys_own_warnings_do_not_reach_the_terminal(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    torch.manual_seed(0)
    pruned(Attending(), tmp_path)
    assert not [warning for warning in recwarn if "Unwrapped" in str(warning.message)]
