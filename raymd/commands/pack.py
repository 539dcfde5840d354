"""`raymd pack DATASET OUT`: make Arrow shards of images, which training reads image by image.

    raymd pack imagenet packed --data_dir /data/imagenet
    raymd pack parquet:photos packed --short_side 256 --quality 90

Place on the data's way: before it. `--dataset imagenet --data_dir OUT` or `--dataset arrow:OUT`
trains on what it writes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raymd.commands import flags
from raymd.errors import UserError

if TYPE_CHECKING:
    from raymd.data.pack import Packed

DEFAULT_SHARD_MB, MAX_SHARD_MB = 256, 2000
DEFAULT_QUALITY = 90
SHOWN = 5


def build_parser() -> flags.Parser:
    """The verb's flags."""
    parser = flags.Parser(
        "pack",
        "Make Arrow files of images, which training reads one by one in any order. Damaged images\n"
        "are left out and counted. OUT appears when all of it is written.",
    )
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        help="imagenet, folder:DIR, parquet:DIR or arrow:DIR; DIR may be s3://…",
    )
    parser.add_argument("out", metavar="OUT", help="a folder that is not there, or empty")
    parser.add_argument("--data_dir", metavar="DIR", help="where imagenet lies")
    flags.add_data_cache(parser)
    parser.add_argument(
        "--shard_mb",
        metavar="MB",
        type=flags.at_least(1),
        default=DEFAULT_SHARD_MB,
        help=f"images in a file, at most {MAX_SHARD_MB} (default: {DEFAULT_SHARD_MB})",
    )
    parser.add_argument(
        "--short_side",
        metavar="PIXELS",
        type=flags.at_least(8),
        help="make larger images JPEG files of this short side (default: leave them as they are)",
    )
    parser.add_argument(
        "--quality",
        metavar="Q",
        type=flags.at_least(1),
        default=DEFAULT_QUALITY,
        help=f"of those JPEG files, up to 100 (default: {DEFAULT_QUALITY})",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Pack; gives the exit code."""
    arguments = build_parser().read(argv)
    for flag, limit in (("shard_mb", MAX_SHARD_MB), ("quality", 100)):
        if getattr(arguments, flag) > limit:
            got = getattr(arguments, flag)
            raise UserError(f"{flag} {got}: at most {limit} is allowed (--{flag})")
    # only now: torch takes seconds to import, and a mistake needs none
    from raymd.data.pack import Smaller, pack

    smaller = None
    if arguments.short_side is not None:
        smaller = Smaller(arguments.short_side, arguments.quality)
    packed = pack(
        arguments.dataset,
        Path(arguments.out),
        data_dir=arguments.data_dir,
        data_cache=arguments.data_cache,
        shard_mb=arguments.shard_mb,
        smaller=smaller,
        announce=lambda line: print(line, file=sys.stderr),
    )
    for part, of_part in packed.items():
        _tell(part, of_part)
    return 0


def _tell(part: str, packed: "Packed") -> None:
    files = "1 file" if packed.shards == 1 else f"{packed.shards} files"
    print(f"{part}: {packed.images:,} images in {files}")
    if packed.left_out:
        shown = [f"{place}: {why}" for place, why in list(packed.left_out.items())[:SHOWN]]
        more = len(packed.left_out) - len(shown)
        rest = f"; and {more:,} more" if more else ""
        print(f"{part}: {len(packed.left_out):,} damaged, left out: {'; '.join(shown)}{rest}")
