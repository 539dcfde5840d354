"""TensorBoard's event files: written at once, and read back.

Enters: numbers, pictures and hyperparameters with their step. Leaves: ``events.out.tfevents.*``.
tensorboardX's own SummaryWriter writes in a thread of its own, where a full disk would end the
thread and then block whoever writes on; here it is an OSError of the call.
"""

import io
import itertools
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PATTERN = "events.out.tfevents.*"
_NUMBERS = itertools.count()


class EventFile:
    """A new event file in a folder, which is made if need be.

    Args:
        folder: TensorBoard shows it as one run, one curve in each plot.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        folder.mkdir(parents=True, exist_ok=True)
        # the rest of the name is host and second, in which there may be another
        suffix = f".{os.getpid()}.{next(_NUMBERS)}"
        self._writer = EventsWriter(str(folder / "events"), suffix)

    def add(
        self,
        *,
        step: int,
        wall_time: float,
        scalars: Mapping[str, float] | None = None,
        pictures: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write numbers and pictures (uint8 [height, width, 3]) of a step, by tag.

        Raises:
            OSError: The file cannot be written.
        """
        from tensorboardX.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=tag, simple_value=value) for tag, value in (scalars or {}).items()
        ]
        for tag, pixels in (pictures or {}).items():
            values.append(Summary.Value(tag=tag, image=_image(pixels)))
        self.add_summary(Summary(value=values), step=step, wall_time=wall_time)

    def add_hparams(
        self, settings: Mapping[str, Any], metrics: Mapping[str, float], *, wall_time: float
    ) -> None:
        """Write what the HParams page compares; the metrics are scalars as well."""
        from tensorboardX.summary import hparams

        known = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in settings.items()
            if value is not None
        }
        for summary in hparams(known, dict(metrics)):
            self.add_summary(summary, step=0, wall_time=wall_time)
        self.add(step=0, wall_time=wall_time, scalars=metrics)

    def add_summary(self, summary: Any, *, step: int, wall_time: float) -> None:
        """Write a Summary protocol buffer."""
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(wall_time=wall_time, step=step, summary=summary))

    def flush(self) -> None:
        """Have everything on the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and end the file."""
        self._writer.close()


def _image(pixels: np.ndarray) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    png = io.BytesIO()
    Image.fromarray(pixels).save(png, format="PNG")
    height, width, channels = pixels.shape
    return Summary.Image(
        height=height, width=width, colorspace=channels, encoded_image_string=png.getvalue()
    )


def read_events(path: Path) -> Iterator[Any]:
    """The Event protocol buffers of a file, up to its end or to where its writer was killed."""
    from tensorboardX.proto.event_pb2 import Event

    data = path.read_bytes()
    place = 0
    while place + 16 <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        start, stop = place + 12, place + 12 + length  # length and its checksum: 12 bytes
        if stop + 4 > len(data):
            return
        yield Event.FromString(data[start:stop])
        place = stop + 4
