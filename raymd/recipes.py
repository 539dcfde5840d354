"""The defaults of each kind of data: what FitConfig leaves open, a recipe decides.

Enters: the data set's name and image size, from config.resolve. Leaves: the recipe, every number
of which stands here once. The paper trains CIFAR and ImageNet; the digits recipe is ours, made for
a first run of minutes on a CPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from raymd.models.names import SMALL_IMAGE_MAX_PIXELS, family, has_batchnorm

Precision = Literal["fp32", "bf16", "fp16"]
LrDrop = Literal["exact", "cycle"]


@dataclass(frozen=True)
class Recipe:
    """Default settings for one kind of data.

    Attributes:
        name: As announced.
        data: The data it is for, in words.
        epochs: The budget.
        tin, td: Epochs of the independent and of the distillation phase of a cycle.
        lr: Learning rate at the start.
        batch_size: Images a step, over all workers of a student.
        weight_decay: SGD's.
        precision: fp32, bf16 or fp16.
        lr_drop: Where the learning rate drops, ``exact`` or ``cycle`` (schedule.drop_epochs).
        lr_without_batchnorm: Learning rate of networks that have no BatchNorm; None: lr.
        family_batch_size, family_weight_decay: Exceptions, by family of networks.
    """

    name: str
    data: str
    epochs: int
    tin: int
    td: int
    lr: float
    batch_size: int
    weight_decay: float = 1e-4
    precision: Precision = "fp32"
    lr_drop: LrDrop = "exact"
    lr_without_batchnorm: float | None = None
    family_batch_size: Mapping[str, int] = field(default_factory=dict)
    family_weight_decay: Mapping[str, float] = field(default_factory=dict)

    def student_lr(self, arch: str) -> float:
        """The learning rate that this network starts at."""
        if self.lr_without_batchnorm is None or has_batchnorm(arch):
            return self.lr
        return self.lr_without_batchnorm

    def student_batch_size(self, arch: str) -> int:
        """The network's batch size in images."""
        return self.family_batch_size.get(family(arch), self.batch_size)

    def student_weight_decay(self, arch: str) -> float:
        """The network's weight decay."""
        return self.family_weight_decay.get(family(arch), self.weight_decay)


# Made for a first run of minutes on two CPU cores: `python -m raymd.fit --students
# resnet18,resnet50`. A resnet50 sees its images 40 batches an epoch, so the rate is low (at 0.02
# the loss of its first epochs grows), there is no augmentation (a shift by one of eight pixels
# took it more than twice the epochs), and the one drop is moved to a cycle's boundary. KL times t²
# is much larger than the task loss here: at a rate of 0.005 the first distillation threw it back.
DIGITS = Recipe(
    name="digits",
    data="scikit-learn's 8x8 digits",
    epochs=6,
    tin=2,
    td=1,
    lr=0.0025,
    batch_size=32,
    lr_drop="cycle",
)

# Tin and Td are the paper's, which gives no total: 8 cycles put both drops of the learning rate
# on cycle boundaries. The rest is the recipe that the paper's baselines come from.
CIFAR = Recipe(
    name="cifar",
    data="images up to 64 pixels",
    epochs=320,
    tin=10,
    td=30,
    lr=0.1,
    batch_size=128,
    family_batch_size={"densenet": 64},
    family_weight_decay={"alexnet": 5e-4, "vgg": 5e-4},
)

# The usual ImageNet recipe, the paper giving none; 0.1 makes networks without BatchNorm diverge.
IMAGENET = Recipe(
    name="imagenet",
    data="images above 64 pixels",
    epochs=120,
    tin=5,
    td=10,
    lr=0.1,
    batch_size=256,
    lr_without_batchnorm=0.01,
)

RECIPES = {recipe.name: recipe for recipe in (DIGITS, CIFAR, IMAGENET)}

FEW_SAMPLES = 20_000


def recipe_for(dataset: str, *, image_size: int) -> Recipe:
    """The recipe for a data set.

    Args:
        dataset: As ``--dataset`` names it, with its argument if it has one ("parquet:DIR").
        image_size: Its images' side in pixels.
    """
    if dataset.partition(":")[0] == DIGITS.name:
        return DIGITS
    return CIFAR if image_size <= SMALL_IMAGE_MAX_PIXELS else IMAGENET


def default_val_fraction(num_samples: int) -> float:
    """The part of the training images held out to measure v_i (Eq. 8) and to pick the best.

    Args:
        num_samples: Training images, after ``--subset``.
    """
    return 0.1 if num_samples < FEW_SAMPLES else 0.02
