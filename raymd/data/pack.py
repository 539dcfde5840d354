"""Images in files or tables -> Arrow shards that training reads image by image.

Place on the data's way: before it, once for a data set (`raymd pack`). Few large files open faster
than millions of small ones, and unlike parquet's their rows can be read in any order.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import simplejpeg
import torch
import xxhash

from raymd.data.columns import CHUNK_ROWS
from raymd.data.decode import UnreadableImageError, decode
from raymd.data.encoded import CHANNELS, EncodedSplit
from raymd.data.folder import folder_sources
from raymd.data.geometry import Geometry
from raymd.data.imagenet import class_names, find_sources
from raymd.data.jpeg import Picture, decode_box
from raymd.data.manifest import sorted_rows
from raymd.data.names import check_dataset
from raymd.data.parts import Source, labels_of
from raymd.data.remote import Announce, Local, made_local
from raymd.data.tables import table_sources
from raymd.errors import DataError, UserError

PACKABLE = ("imagenet", "folder", "parquet", "arrow")


@dataclass(frozen=True)
class Smaller:
    """How images are made smaller: those with a longer short side become JPEG files of it."""

    short_side: int
    quality: int


class Packed(NamedTuple):
    """What was written of a part, and why images were left out."""

    images: int
    shards: int
    left_out: dict[str, str]


class _Row(NamedTuple):
    """A row of a shard; without content where the image is damaged, for ``reason``."""

    id: str
    content: bytes | None
    label: int
    reason: str = ""


def pack(
    spec: str,
    out: Path,
    *,
    data_dir: Path | str | None = None,
    data_cache: str | None = None,
    shard_mb: int = 256,
    smaller: Smaller | None = None,
    announce: Announce = print,
) -> dict[str, Packed]:
    """Write shards ``train-00000-of-00128.arrow`` and those of the test part.

    Rows have ``id``, ``image`` {bytes, path} and ``label``, in the order of their ids. Damaged
    images are left out. OUT appears, or is filled, when all of it is written.

    Args:
        spec: A data set of files, as ``--dataset`` has it.
        out: A folder that is not there, or empty; perhaps a link to one, or a mount point.
        data_dir: For "imagenet".
        data_cache: As for ``load_dataset``.
        shard_mb: Megabytes of images in a shard, 1 to 2,000.
        smaller: Make images smaller.
        announce: Takes lines of what is going on.

    Returns:
        What was written of "train" and, if there is one, of "test".

    Raises:
        UserError: another kind of data set, or a folder that is not empty.
        DataError: what the data set's loader refuses.
    """
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there and not empty; name a folder that is not (OUT)")
    name, _ = check_dataset(spec)
    if name not in PACKABLE:
        raise UserError(f"dataset {spec}: can be packed are {', '.join(PACKABLE)} (DATASET)")
    here = made_local(spec, data_dir, cache=data_cache, announce=announce)
    parts, classes = _open(spec, here, announce)
    made = _new_folder(out)
    try:
        packed = {
            part: _pack_part(made, part, split, classes, shard_mb=shard_mb, smaller=smaller)
            for part, split in parts.items()
        }
        _put(made, out)
    except BaseException:
        shutil.rmtree(made)
        raise
    return packed


def _new_folder(out: Path) -> Path:
    """A hidden folder on OUT's disk: in OUT where that is there, since what it is, a mount point or
    somebody's working directory, may not be replaced; else beside it."""
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
    where = out if out.exists() else out.parent
    return Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=where))


def _put(made: Path, out: Path) -> None:
    if made.parent != out:
        made.chmod(0o755)  # mkdtemp's is for its owner alone
        made.replace(out)
        return
    for shard in sorted(made.iterdir()):
        shard.rename(out / shard.name)
    made.rmdir()


def _open(
    spec: str, here: Local, announce: Announce
) -> tuple[dict[str, EncodedSplit], tuple[str, ...]]:
    """Each part in the order of its ids, and the classes' names."""
    train, test, notes = _sources(spec, here)
    labels = labels_of(spec, train, test)
    for note in (*notes, *labels.notes):
        announce(note)
    parts = {}
    for part, source, of_part in (("train", train, labels.train), ("test", test, labels.test)):
        if source is not None and of_part is not None:
            manifest = source.manifest()
            rows = sorted_rows(manifest)
            parts[part] = EncodedSplit(manifest, rows, torch.from_numpy(of_part[rows]), 1)
    return parts, class_names(labels.classes) if spec == "imagenet" else labels.classes


def _sources(spec: str, here: Local) -> tuple[Source, Source | None, tuple[str, ...]]:
    name, _ = check_dataset(spec)
    if name != "imagenet":
        folder = Path(here.argument)
        return folder_sources(folder) if name == "folder" else table_sources(folder, suffix=name)
    return find_sources(here.data_dir)


def _pack_part(
    folder: Path,
    part: str,
    split: EncodedSplit,
    classes: tuple[str, ...],
    *,
    shard_mb: int,
    smaller: Smaller | None,
) -> Packed:
    schema = _schema(split, classes)
    left_out: dict[str, str] = {}
    shards = images = 0
    for rows in _shards(_intact(_rows(split, smaller), left_out), shard_mb * 10**6):
        images += _write(folder / f"{part}-{shards:05d}", schema, rows)
        shards += 1
    if not shards:
        raise DataError(f"{split.place(0)} and all other images of the {part} part are damaged")
    for number in range(shards):
        name = f"{part}-{number:05d}"
        (folder / name).rename(folder / f"{name}-of-{shards:05d}.arrow")
    return Packed(images, shards, left_out)


def _rows(split: EncodedSplit, smaller: Smaller | None) -> Iterator[_Row]:
    """All rows in order, read and tried in threads, a chunk ahead of what is written."""

    def row(number: int) -> _Row:
        text, label = (
            split.manifest.ids[int(split.where[number])].as_py(),
            int(split.labels[number]),
        )
        try:
            return _Row(text, _tried(split.picture(number), smaller), label)
        except UnreadableImageError as error:
            return _Row(split.place(number), None, label, str(error))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        starts = range(0, len(split), CHUNK_ROWS)
        chunks = ([*range(first, min(first + CHUNK_ROWS, len(split)))] for first in starts)
        before: Iterable[_Row] = ()
        for chunk in chunks:
            coming = pool.map(row, chunk)
            yield from before
            before = coming
        yield from before


def _tried(picture: Picture, smaller: Smaller | None) -> bytes:
    """The image's bytes, once they were decoded, or those of a smaller one."""
    height, width = picture.height, picture.width
    short = min(height, width)
    if smaller is None or short <= smaller.short_side:
        decode_box(picture, (0, 0, height, width), side=1, channels=CHANNELS)
        return picture.content
    height, width = (round(length * smaller.short_side / short) for length in (height, width))
    fitted = Geometry(height, width, smaller.short_side)
    pixels_HWC = decode(picture.content, geometry=fitted, channels=CHANNELS)
    return bytes(simplejpeg.encode_jpeg(pixels_HWC, quality=smaller.quality))


def _intact(rows: Iterable[_Row], left_out: dict[str, str]) -> Iterator[_Row]:
    for row in rows:
        if row.content is None:
            left_out[row.id] = row.reason
        else:
            yield row


def _shards(rows: Iterator[_Row], shard_bytes: int) -> Iterator[Iterator[_Row]]:
    """Rows of one shard after the other; each is to be used up before the next."""
    first = next(rows, None)

    def shard() -> Iterator[_Row]:
        nonlocal first
        taken = 0
        while first is not None and taken < shard_bytes:
            taken += len(first.content or b"")
            row, first = first, None
            yield row
            first = next(rows, None)

    while first is not None:
        yield shard()


def _write(file: Path, schema: pa.Schema, rows: Iterator[_Row]) -> int:
    """A shard, in batches of a few hundred rows; gives back how many rows it has."""
    written = 0
    with file.open("wb") as sink:
        with pa.ipc.new_file(sink, schema) as writer:
            while batch := list(islice(rows, CHUNK_ROWS)):
                writer.write_batch(_batch(batch, schema))
                written += len(batch)
        sink.flush()
        os.fsync(sink.fileno())
    return written


def _batch(rows: list[_Row], schema: pa.Schema) -> pa.RecordBatch:
    images = [{"bytes": row.content, "path": PurePosixPath(row.id).name} for row in rows]
    columns = ([row.id for row in rows], images, [row.label for row in rows])
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _schema(split: EncodedSplit, classes: tuple[str, ...]) -> pa.Schema:
    """As Hugging Face's library reads and writes them, with the hash of what was packed."""
    digest = xxhash.xxh3_128()
    split.add_to(digest)
    features = {
        "id": {"dtype": "string", "_type": "Value"},
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
    }
    metadata = {
        "huggingface": json.dumps({"info": {"features": features}}),
        "raymd": json.dumps({"packed_from": digest.hexdigest()}),
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.schema([("id", pa.string()), ("image", image), ("label", pa.int64())], metadata)
