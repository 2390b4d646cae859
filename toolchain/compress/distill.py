"""Learn from a teacher's softened answers beside the labels (Hinton et al. 2015, Distilling the Knowledge).

Knows the loss; who teaches is teachers.py's, the loop training.py's.
"""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from toolchain.compress.frozen import parameter_groups
from toolchain.compress.head import head_of
from toolchain.compress.losses import labelled, logits_of, softened_kl
from toolchain.compress.options import Positive, Share, TrainingOptions, check_training, seed_of, training_key
from toolchain.compress.step import Context, Net
from toolchain.compress.teachers import averaged, teachers_of
from toolchain.compress.training import Loss, Training, accelerator, all_learning, check_trainable, train
from toolchain.recipe import ModelSpec


class Distill(TrainingOptions, frozen=True, forbid_unknown_fields=True):
    """loss = alpha T^2 KL(teacher || student, both at `temperature` T) + (1 - alpha) cross-entropy.

    teachers: models as in [model]; none: the net as the recipe started from it. Several: their logits are averaged.
    """

    teachers: tuple[ModelSpec, ...] = ()
    temperature: Positive = 4.0
    alpha: Share = 0.9

    def check(self, context: Context) -> None:
        """RecipeError for options that cannot work on this data."""
        check_training(self, context)

    def rehearse(self, net: Net, context: Context) -> Net:
        """The same net; RecipeError when it cannot be trained, or a teacher does not fit."""
        check_trainable(net)
        teachers_of(self.teachers, context)
        return replace(net, history=())

    def apply(self, net: Net, context: Context) -> Net:
        """The trained student; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers = teachers_of(self.teachers, context)
        module = deepcopy(net.module)
        groups = parameter_groups(module, head_of(module, context.preprocessing).name, self.weight_decay, 1.0)
        training = Training(
            module=module,
            plan=self,
            context=context,
            seed=seed_of(self, context),
            key=training_key(self, context, module, *teachers),
            loss=self._loss(teachers),
            groups=groups,
            ready=all_learning,
            sparse=net.sparse,
        )
        module, history = train(training)
        return replace(net, module=module, history=history)

    def _loss(self, teachers: tuple[nn.Module, ...]) -> Loss:
        device = accelerator()
        ready = tuple(teacher.to(device).to(memory_format=torch.channels_last) for teacher in teachers)

        def loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            answers = module(images)
            soft = softened_kl(logits_of(answers), averaged(ready, images), self.temperature)
            return self.alpha * soft + (1 - self.alpha) * labelled(answers, labels, self.label_smoothing)

        return loss
