"""Which run and which device a command means. No Ray."""

import sys

import torch

from raymd.errors import UserError
from raymd.result import Result
from raymd.run_folder import RESULT
from raymd.runs import IDENTITY, latest_run
from raymd.storage import Storage

LATEST = "latest"


def find_run(text: str, *, storage: str) -> Storage:
    """The run that RUN means: ``latest``, a folder or URI, or a name below the storage.

    Raises:
        UserError: there is no such run.
    """
    base = Storage.at(storage)
    if text == LATEST:
        try:
            return base.sub(latest_run(base))
        except UserError as error:
            raise UserError(
                f"no run in {base.uri}; name a run's folder, or the folder around it (--storage)"
            ) from error
    places = [Storage.at(text)] if "://" in text else [Storage.at(text), base.sub(text)]
    for place in places:
        if place.exists("students") or place.exists(IDENTITY):
            return place
    looked = " nor in ".join(place.uri for place in places)
    raise UserError(f"no run {text!r}: neither in {looked} (RUN, --storage)")


def read_result(run: Storage) -> Result:
    """A finished run's result.

    Raises:
        UserError: it is not finished.
        DataError: its result.json is damaged, or of another version.
    """
    try:
        text = run.read(RESULT).to_pybytes().decode()
    except FileNotFoundError as error:
        raise UserError(
            f"{run.uri} is not finished (it has no {RESULT}); `raymd fit --resume` goes on with it"
        ) from error
    return Result.from_json(text)


def choose_device(name: str) -> torch.device:
    """The device of ``--device``; what ``auto`` chose is told on stderr, with its reason.

    Raises:
        UserError: it is not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        chosen = next(device for device, is_there in there.items() if is_there)
        reason = "no CUDA or MPS in sight" if chosen == "cpu" else f"{chosen.upper()} is there"
        print(f"device {chosen}: {reason} (--device)", file=sys.stderr)
        return torch.device(chosen)
    if not there[name]:
        others = ", ".join(device for device, is_there in there.items() if is_there)
        raise UserError(f"device {name!r} is not in sight of torch; there is {others} (--device)")
    return torch.device(name)
