"""The three sizes at which the paper's studies run: full, small, smoke.

Enters: a scale's name and the data the user named. Leaves: which network stands for each of the
paper's, the settings that all points share, and the numbers that costs are reckoned with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from raymd.data.names import check_dataset
from raymd.errors import UserError, unknown_name
from tuning.study.numbers import label

NETWORKS = (
    "alexnet", "vgg19", "resnet110", "resnet164", "densenet100",
    "resnet18", "resnet50", "squeezenet1_0", "squeezenet1_1",
)  # fmt: skip
IMAGENET_PLACEHOLDER = "folder:IMAGENET"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One size of all studies.

    Attributes:
        name: As ``--scale`` takes it.
        about: What it is for, in a line.
        networks: The network that stands for each of the paper's; a missing one has none.
        settings: What all points share.
        imagenet: What replaces those on ImageNet.
        datasets: Our data set for each of the paper's.
        seeds: How many, unless ``--seeds`` says.
        t: The values of Table 4; None: the paper's.
        td: Our Td for each of the paper's in Table 5; None: the paper's.
        students: The student numbers of Figure 5.
        figure4, figure2: What replaces the settings for these figures.
        few: Only the first group of each study.
        where: How its runs run, unless the user says (points.NO_SCIENCE).
        images_per_s: Training speed of each network on one device, for reckoning costs.
        speed_note: Where these come from.
        device: What one device is.
        overhead_s: Beginning and ending a run.
    """

    name: str
    about: str
    networks: Mapping[str, str]
    settings: Mapping[str, Any]
    imagenet: Mapping[str, Any] = field(default_factory=dict)
    datasets: Mapping[str, str]
    seeds: int
    t: tuple[float, ...] | None = None
    td: Mapping[int, int] | None = None
    students: tuple[int, ...] = (2, 3, 4, 5)
    figure4: Mapping[str, Any]
    figure2: Mapping[str, Any]
    few: bool = False
    where: Mapping[str, Any] = field(default_factory=dict)
    images_per_s: Mapping[str, float]
    speed_note: str
    device: str
    overhead_s: float

    @property
    def is_papers(self) -> bool:
        """Whether sizes compare with the paper's."""
        return self.name == "full"

    def network(self, papers: str) -> str | None:
        """What stands for one of the paper's networks; None: nothing does."""
        return self.networks.get(papers)

    def mapping_lines(self) -> list[str]:
        """The networks that stand for others, in words."""
        pairs = [(papers, ours) for papers, ours in self.networks.items() if papers != ours]
        if not pairs:
            return ["networks: the paper's"]
        text = ", ".join(f"{ours} for {label(papers)}" for papers, ours in pairs)
        return [f"networks: {text}; the others are the paper's"]


FULL = Scale(
    name="full",
    about="the paper's setting, for a cluster of GPUs",
    networks={name: name for name in NETWORKS},
    settings={"t": 3.0, "tin": 10, "td": 30, "epochs": 320, "val_fraction": 0.0},
    imagenet={"tin": 5, "td": 10, "epochs": 120},
    datasets={
        "cifar10": "cifar10",
        "cifar100": "cifar100",
        "imagenet": IMAGENET_PLACEHOLDER,
        "mnist": "mnist",
    },
    seeds=5,
    figure4={"epochs": 360, "val_fraction": 0.05},
    figure2={"epochs": 50},
    images_per_s={
        "alexnet": 20_000, "vgg19": 9_000, "resnet110": 2_800, "resnet164": 2_200,
        "densenet100": 1_200, "resnet18": 1_200, "resnet50": 400, "squeezenet1_0": 1_500,
        "squeezenet1_1": 2_500,
    },
    speed_note="assumed, measured by nobody here: fp32 on one data-centre GPU of some years ago",
    device="GPU",
    overhead_s=60,
)  # fmt: skip

_SMALL_SPEEDS = {"resnet8": 1260, "resnet14": 650, "resnet20": 530, "alexnet": 960}
SMALL = Scale(
    name="small",
    about="small networks on 5,000 images, for a machine of two cores overnight",
    networks={
        "alexnet": "alexnet", "vgg19": "resnet8", "resnet110": "resnet20",
        "densenet100": "resnet14", "resnet18": "resnet14", "resnet50": "resnet20",
        "squeezenet1_0": "resnet8",
    },
    settings={"t": 3.0, "tin": 5, "td": 10, "epochs": 60, "subset": 5000, "val_fraction": 0.1},
    datasets={
        "cifar10": "cifar10", "cifar100": "cifar100", "imagenet": "cifar10", "mnist": "mnist",
    },
    seeds=5,
    td={1: 1, 5: 2, 10: 3, 20: 7, 30: 10, 40: 13},
    figure4={"epochs": 75},
    figure2={"epochs": 20, "subset": 5000},
    images_per_s=_SMALL_SPEEDS,
    speed_note="of one thread of an AVX2 AMD EPYC, fp32, 32x32 pixels: resnet8 and resnet20 from"
    " docs/performance.md, the others from their ratio to these",
    device="core",
    overhead_s=20,
)  # fmt: skip

SMOKE = Scale(
    name="smoke",
    about="tiny networks on digits, to see that everything works",
    networks={
        "alexnet": "resnet8", "vgg19": "resnet8", "resnet110": "resnet14",
        "densenet100": "resnet14", "resnet18": "resnet8", "resnet50": "resnet14",
        "squeezenet1_0": "resnet8",
    },
    settings={"t": 3.0, "tin": 1, "td": 1, "epochs": 4, "subset": 600, "val_fraction": 0.1},
    datasets=dict.fromkeys(("cifar10", "cifar100", "imagenet", "mnist"), "digits"),
    seeds=2,
    t=(1.0, 3.0),
    td={1: 1, 30: 3},
    students=(2, 3),
    figure4={},
    figure2={},
    few=True,
    where={"cpus_per_worker": 1.0},  # threads are of no use to networks this small
    images_per_s=dict.fromkeys(("resnet8", "resnet14"), 2000),
    speed_note="a guess; beginning a run takes longer than training here",
    device="core",
    overhead_s=10,
)  # fmt: skip

SCALES: Mapping[str, Scale] = MappingProxyType({s.name: s for s in (FULL, SMALL, SMOKE)})

NUM_IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "mnist": 60_000, "digits": 1_437}
NUM_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000, "mnist": 10}
NUM_IMAGENET = 1_281_167


def get_scale(name: str) -> Scale:
    """The scale of that name; UserError with the nearest if there is none."""
    if name not in SCALES:
        raise unknown_name("scale", name, SCALES, flag="--scale")
    return SCALES[name]


@dataclass(frozen=True)
class Data:
    """Our data set beside the paper's.

    Attributes:
        papers: cifar10, cifar100, imagenet or mnist: whose numbers stand beside ours.
        dataset: As ``--dataset`` takes it.
    """

    papers: str
    dataset: str

    @property
    def title(self) -> str:
        """For people."""
        name = self.dataset.partition(":")[0]
        return label(self.papers) if name == self.papers else f"{name} for {label(self.papers)}"

    def num_images(self, subset: int | None) -> int | None:
        """Training images, if that can be known without looking at them."""
        name = self.dataset.partition(":")[0]
        whole = NUM_IMAGENET if self.papers == "imagenet" else NUM_IMAGES.get(self.papers)
        whole = NUM_IMAGES.get(name, whole)
        return whole if subset is None or whole is None else min(whole, subset)


def choose_data(
    scale: Scale, papers: tuple[str, ...], *, dataset: str | None, stands_for: str | None
) -> tuple[Data, ...]:
    """Our data sets for those of a study.

    Args:
        scale: Small and smoke take the study's first data set only, as their nights are short.
        papers: The study's, as the paper has them.
        dataset: The user's; it alone is used.
        stands_for: Which of the paper's that one is; None: by its name, or else the first.

    Raises:
        UserError: no such data set, or the study has none of that name.
    """
    if stands_for is not None and stands_for not in papers:
        raise unknown_name("data set of the study", stands_for, papers, flag="--stands_for")
    if dataset is None:
        chosen = papers if scale.is_papers else papers[:1]
        chosen = (stands_for,) if stands_for is not None else chosen
        return tuple(Data(name, scale.datasets[name]) for name in chosen)
    name, _ = check_dataset(dataset)
    guessed = name if name in papers else papers[0]
    return (Data(stands_for or guessed, dataset),)


def check_has_data(data: tuple[Data, ...]) -> None:
    """UserError where a placeholder stands for images that the user has to name."""
    if any(entry.dataset == IMAGENET_PLACEHOLDER for entry in data):
        raise UserError(
            "ImageNet has no name of its own here: give its folder (--dataset folder:DIR or"
            " parquet:DIR), or see what it would cost (--dry_run)"
        )
