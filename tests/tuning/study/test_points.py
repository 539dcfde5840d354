"""Points are run once, read afterwards and gone on with; a study killed half-way ends the same."""

import json

import pytest

from raymd.errors import DataError, NonFiniteLossError, RaymdError, UserError
from raymd.execution.run import InterruptedRunError
from raymd.storage import Storage
from raymd.training import epoch
from tests.tuning.study.fakes import fake_fit, point, small_study
from tuning.study.measures import num_diverged
from tuning.study.points import DIVERGED_SIGN, point_folder, read_outcome, run_point
from tuning.study.running import Heartbeat, Runner, StudyError, read_all

DIVERGED = "resnet8 diverged: the loss is not a number at epoch 1, step 2. Try a smaller …"


@pytest.fixture
def base(tmp_path):
    return Storage.at(tmp_path)


class Fits:
    """A fit that counts, and fails as told."""

    def __init__(self, **problems):
        self.configs = []
        self.problems = problems

    def __call__(self, config, on_event):
        self.configs.append(config)
        problem = self.problems.get(f"{config.method}{config.seed}")
        if problem is not None:
            raise problem
        return fake_fit(config, on_event)

    @property
    def ran(self):
        return [(config.method, config.seed) for config in self.configs]


def runner(base, fit, *, seeds=(0, 1), study=None, lines=None):
    announce = (lambda text: None) if lines is None else lines.append
    return Runner(study or small_study(), seeds, base, announce=announce, fit=fit)


def test_a_point_is_run_once_and_read_afterwards(base):
    fits = Fits()
    first = run_point(point(), 4, base=base, fit=fits)
    again = run_point(point(), 4, base=base, fit=fits)
    assert fits.ran == [("independent", 4)]
    assert first == again
    assert again.run == str(base.sub(point_folder(point())).sub("seed-4").uri)
    config = fits.configs[0]
    assert (config.resume, config.name, config.view) == ("auto", "seed-4", "none")


def test_settings_of_where_it_runs_reach_the_run_and_change_no_folder(base):
    fits = Fits()
    run_point(point(), 0, base=base, fit=fits, extra={"device": "cpu", "slots": 1})
    assert (fits.configs[0].device, fits.configs[0].slots) == ("cpu", 1)
    assert read_outcome(base, point(), 0) is not None


def test_seeds_are_the_outer_loop(base):
    fits = Fits()
    runner(base, fits).run()
    assert fits.ran == [("independent", 0), ("md", 0), ("independent", 1), ("md", 1)]


@pytest.mark.parametrize("killed_at", ["independent0", "md0", "independent1", "md1"])
def test_a_study_killed_anywhere_runs_only_what_is_missing(base, killed_at):
    first = Fits(**{killed_at: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        runner(base, first).run()
    second = Fits()
    runner(base, second).run()
    assert first.ran[:-1] + second.ran == [
        ("independent", 0), ("md", 0), ("independent", 1), ("md", 1),
    ]  # fmt: skip
    assert runner(base, Fits()).missing() == []


def test_an_interrupted_run_ends_the_study(base):
    fits = Fits(md0=InterruptedRunError("stopped, and everything is committed"))
    with pytest.raises(KeyboardInterrupt):
        runner(base, fits).run()
    assert fits.ran == [("independent", 0), ("md", 0)]


def test_more_seeds_run_only_those(base):
    runner(base, Fits(), seeds=(0,)).run()
    fits = Fits()
    runner(base, fits, seeds=(0, 1, 2)).run()
    assert [seed for _, seed in fits.ran] == [1, 1, 2, 2]


def test_studies_of_a_storage_share_points(base):
    runner(base, Fits()).run()
    other = small_study(**{"md t=9": point("md", t=9.0)})
    fits = Fits()
    runner(base, fits, study=other).run()
    assert fits.ran == [("md", 0), ("md", 1)]
    assert {config.t for config in fits.configs} == {9.0}


def test_a_diverged_point_is_kept_counted_and_not_run_again(base):
    lines = []
    fits = Fits(md0=RaymdError(DIVERGED))
    runner(base, fits, lines=lines).run()
    assert len(fits.ran) == 4  # the study went on
    assert "  diverged, 0 s" in "\n".join(lines)
    kept = json.loads(base.read(f"{point_folder(point('md'))}/seed-0-diverged.json").to_pybytes())
    assert kept["message"] == DIVERGED
    assert kept["settings"]["method"] == "md"
    outcomes = read_all(small_study(), (0, 1), base).of(point("md"))
    assert num_diverged(outcomes) == 1
    assert outcomes[0].result is None
    assert runner(base, Fits()).missing() == []


def test_what_the_training_step_says_is_taken_for_divergence():
    import inspect

    assert DIVERGED_SIGN in inspect.getsource(epoch._diverged).replace("{task.student.id}", "x")
    assert DIVERGED_SIGN in str(NonFiniteLossError(DIVERGED))


def test_other_failures_are_told_at_the_end_and_tried_again(base):
    lines = []
    with pytest.raises(StudyError, match=r"1 run failed.*out of memory.*goes on"):
        runner(base, Fits(md0=RaymdError("out of memory")), lines=lines).run()
    assert "  failed: out of memory" in lines
    fits = Fits()
    runner(base, fits).run()
    assert fits.ran == [("md", 0)]


def test_a_mistake_of_the_users_ends_the_study_at_once(base):
    fits = Fits(independent0=UserError("no such data set (--dataset)"))
    with pytest.raises(UserError, match="--dataset"):
        runner(base, fits).run()
    assert len(fits.ran) == 1


def test_three_failures_in_a_row_end_the_study(base):
    failing = {f"{m}{s}": RaymdError("disk") for m in ("independent", "md") for s in (0, 1, 2)}
    fits = Fits(**failing)
    with pytest.raises(StudyError, match="3 runs failed"):
        runner(base, fits, seeds=(0, 1, 2)).run()
    assert len(fits.ran) == 3


def test_a_damaged_result_is_told(base):
    run_point(point(), 0, base=base, fit=Fits())
    base.write(f"{point_folder(point())}/seed-0/result.json", b"{")
    with pytest.raises(DataError, match=r"seed-0: .*damaged.*remove that folder"):
        read_outcome(base, point(), 0)


def test_lines_tell_place_accuracies_and_the_time_left(base):
    times = iter(range(0, 100_000, 30))
    lines = []
    study = small_study()
    Runner(
        study, (0,), base, announce=lines.append, fit=Fits(), clock=lambda: float(next(times))
    ).run()
    assert lines[0].startswith("[1/2] independent resnet8 + resnet14 on digits, 2 epochs of 1+1")
    assert lines[1].startswith("  70.0 70.3 %, ")
    assert "1 run left, about" in lines[1]
    assert lines[3].startswith("  70.5 70.8 %, ")
    assert "left" not in lines[3]


def test_heartbeat_tells_once_a_minute():
    now, lines = [0.0], []
    heartbeat = Heartbeat(lines.append, lambda: now[0])
    for seconds in range(0, 200, 20):
        now[0] = float(seconds)
        heartbeat({"event": "epoch", "epoch": seconds, "epochs": 200, "student": "a"})
        heartbeat({"event": "progress", "epoch": seconds})
    assert lines == [f"  epoch {n + 1}/200 (a)" for n in (60, 120, 180)]
