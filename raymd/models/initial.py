"""Weights to begin with (``--init_from``): of a student of another run, or of a file.

Enters: a fresh network and the source's name. Leaves: the network with every tensor of the source
that fits it by name and shape, and one line for each thing worth knowing. A source is

    runs/imagenet          a run's folder or URI: its student of the same network
    runs/imagenet::vgg19   one student of it, by id
    weights.safetensors    a file of safetensors, or of torch (.pt, .pth)
"""

import io
import pickle
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from raymd.errors import StorageAccessError, StorageError, UserError, unknown_name
from raymd.models.registry import Upscaled
from raymd.run_folder import model_record, weights_file
from raymd.storage import Storage

FLAG = "--init_from"
TORCH_SUFFIXES = (".pt", ".pth")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
STATE_KEYS = ("state_dict", "model", "model_state_dict")
# what DistributedDataParallel, torch.compile and raymd's Upscaled put before every name
WRAPPERS = ("module.", "_orig_mod.", "net.")
MIN_FITTING = 0.5  # part of the network's parameters


def check_source(source: str, *, archs: Iterable[str] = ()) -> None:
    """Refuse a source that is not there, without reading its weights.

    Args:
        source: As ``--init_from`` takes it.
        archs: Networks that shall begin with it; a run needs a student of each.

    Raises:
        UserError: No such file, run or student.
    """
    if _is_file(source):
        storage, name = _split(source)
        if not storage.exists(name):
            raise UserError(f"no file {source!r} ({FLAG})")
        return
    for arch in archs:
        _student_of(source, arch=arch)
    _finished(source)


def load_initial(model: nn.Module, *, source: str, arch: str) -> list[str]:
    """Give a network the weights of a source, where they fit.

    Args:
        model: Changed in place. What does not fit keeps its fresh initialisation, such as the last
            layer where the source has other classes.
        source: As ``--init_from`` takes it.
        arch: The network's name, by which a run's student is found.

    Returns:
        Announcements, one line each.

    Raises:
        UserError: No such source, one that cannot be read, or one of which less than half of the
            network's parameters have a fitting tensor.
        StorageError: Damaged weights of a run.
    """
    found, target, own, state = _read(model, source, arch)
    fitting = {
        key: state[key] for key in own if key in state and state[key].shape == own[key].shape
    }
    parameters = {key: p.numel() for key, p in target.named_parameters()}
    total, loaded = sum(parameters.values()), sum(parameters.get(key, 0) for key in fitting)
    fresh = [key for key in own if key not in fitting]
    if loaded < MIN_FITTING * total:
        raise UserError(
            f"{found} fits {loaded:,} of the {total:,} parameters of {arch}, less than half"
            f" (first that does not: {_mismatch(fresh[0], own, state)}; {FLAG})"
        )
    target.load_state_dict(fitting, strict=False)
    lines = [f"{arch} begins with {found}: {loaded:,} of {total:,} parameters"]
    if fresh:
        more = f" and {len(fresh) - 1} more" if len(fresh) > 1 else ""
        lines.append(f"{arch} keeps fresh: {_mismatch(fresh[0], own, state)}{more}")
    return lines


def load_whole(model: nn.Module, *, source: str, arch: str, flag: str) -> str:
    """Give a network all weights of a source; gives back what the source is.

    Args:
        model: Changed in place.
        source, arch: As in ``load_initial``.
        flag: That the user said.

    Raises:
        UserError: No such source, or one of which any tensor does not fit.
        StorageError: Damaged weights of a run.
    """
    try:
        check_source(source, archs=() if _is_file(source) else [arch])
        found, target, own, state = _read(model, source, arch)
    except UserError as error:
        raise UserError(str(error).replace(FLAG, flag)) from error
    unfit = [key for key in own if key not in state or state[key].shape != own[key].shape]
    if unfit:
        raise UserError(
            f"{found} is no {arch} for this data: {len(unfit)} of {len(own)} tensors do not fit"
            f" (first: {_mismatch(unfit[0], own, state)}; {flag})"
        )
    target.load_state_dict({key: state[key] for key in own})
    return found


def _read(
    model: nn.Module, source: str, arch: str
) -> tuple[str, nn.Module, dict[str, Tensor], dict[str, Tensor]]:
    """What the source is, the network that its weights are of, that one's tensors, the source's."""
    found, state = _read_file(source) if _is_file(source) else _read_run(source, arch=arch)
    target = model.net if isinstance(model, Upscaled) else model
    own = target.state_dict()
    return found, target, own, _unwrapped(state, own)


def _mismatch(key: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    there = f"{list(state[key].shape)} there" if key in state else "not there"
    return f"{key} {list(own[key].shape)}, {there}"


def _unwrapped(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that wrappers left before every name, unless the network has them."""
    for _ in WRAPPERS:
        for prefix in WRAPPERS:
            if _all_start(state, prefix) and not _all_start(own, prefix):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def _all_start(state: Mapping[str, Tensor], prefix: str) -> bool:
    return bool(state) and all(key.startswith(prefix) for key in state)


# -- files ------------------------------------------------------------------------------------


def _is_file(source: str) -> bool:
    return source.partition("?")[0].endswith(SUFFIXES)


def _split(source: str) -> tuple[Storage, str]:
    """The folder that holds a file, and the file's name; a URI's options stay with the folder."""
    path, mark, options = source.partition("?") if "://" in source else (source, "", "")
    folder, _, name = path.rpartition("/")
    return Storage.at((folder or ("/" if path.startswith("/") else ".")) + mark + options), name


def _read_file(source: str) -> tuple[str, dict[str, Tensor]]:
    storage, name = _split(source)
    try:
        data = storage.read(name).to_pybytes()
        if not name.endswith(TORCH_SUFFIXES):
            return source, load_safetensors(data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except StorageAccessError:  # a worker may try again
        raise
    except OSError as error:
        raise UserError(f"{source!r} cannot be read: {error} ({FLAG})") from error
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        first = str(error).partition("\n")[0].partition(". ")[0]  # torch's goes on for a page
        raise UserError(
            f"{source!r} holds no weights that can be read safely: {first} ({FLAG}; save a"
            " state_dict, torch.save(model.state_dict(), FILE))"
        ) from error
    return source, _tensors(state, source=source)


def _tensors(state: Any, *, source: str) -> dict[str, Tensor]:
    if isinstance(state, dict):
        state = next((state[k] for k in STATE_KEYS if isinstance(state.get(k), dict)), state)
        tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    keys = f"keys {', '.join(map(str, list(state)[:5]))}" if isinstance(state, dict) else "no keys"
    raise UserError(
        f"{source!r} holds a {type(state).__name__} with {keys}, not tensors by name, alone or"
        f" under {', '.join(STATE_KEYS)} ({FLAG})"
    )


# -- runs -------------------------------------------------------------------------------------


def _finished(source: str) -> tuple[Storage, list[str]]:
    """A run's storage and its finished students, the one asked for alone if one is."""
    run, _, student = source.partition("::")
    storage = Storage.at(run)
    finished = [name for name in storage.list("students") if storage.exists(model_record(name))]
    if not finished:
        raise UserError(
            f"{storage.uri} holds no finished student ({FLAG} takes a finished run, RUN::STUDENT,"
            f" or a file that ends in {', '.join(SUFFIXES)})"
        )
    if student and student not in finished:
        raise unknown_name("student", student, finished, flag=f"{FLAG} {run}::STUDENT")
    return storage, [student] if student else finished


def _student_of(source: str, *, arch: str) -> tuple[Storage, str, dict[str, Any]]:
    """The student that a network begins with: the one asked for, or the first of its name."""
    storage, students = _finished(source)
    records = {name: storage.record(model_record(name)) or {} for name in students}
    if "::" in source:
        return storage, students[0], records[students[0]]
    for name, record in records.items():
        if record.get("arch") == arch:
            return storage, name, record
    held = ", ".join(f"{name} ({record.get('arch')})" for name, record in records.items())
    raise UserError(f"{storage.uri} has no student of {arch}, but {held} ({FLAG} RUN::STUDENT)")


def _read_run(source: str, *, arch: str) -> tuple[str, dict[str, Tensor]]:
    storage, student, record = _student_of(source, arch=arch)
    name = weights_file(student, "best")
    if name not in record.get("files", {}):
        raise StorageError(f"{storage.uri}/{model_record(student)} names no {name}")
    data = storage.read_committed(name, record=record)
    return f"{student} of {storage.uri}", load_safetensors(data.to_pybytes())
