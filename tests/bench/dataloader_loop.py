"""The loop that most people would write: PIL images, torchvision's transforms, a DataLoader.

train_step.py's rival. Nothing in it is raymd's but the network.
"""

import time

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from raymd.data.dataset import CIFAR_MEAN, CIFAR_STD, Split
from raymd.models import build_model

TRANSFORM = transforms.Compose(
    [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(CIFAR_MEAN, CIFAR_STD),
    ]
)


class PilImages(Dataset):
    """A split as torchvision.datasets.CIFAR10 gives it."""

    def __init__(self, split: Split) -> None:
        self.images = [to_pil_image(image_CHW) for image_CHW in split.images]
        self.labels = split.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return TRANSFORM(self.images[index]), self.labels[index]


def images_per_s(split: Split, *, arch: str, batch_size: int, num_loaders: int) -> float:
    """Of the second epoch; the first starts the loaders' processes and warms the network up."""
    model = build_model(arch, num_classes=10, in_channels=3, image_size=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    loader = DataLoader(
        PilImages(split), batch_size=batch_size, shuffle=True, num_workers=num_loaders,
        persistent_workers=num_loaders > 0,
    )  # fmt: skip
    model.train()
    for _ in range(2):
        started = time.perf_counter()
        loss_sum, correct = 0.0, 0
        for images, labels in loader:
            optimizer.zero_grad()
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            correct += int((logits.argmax(1) == labels).sum())
    return len(split) / (time.perf_counter() - started)
