"""`python -m raymd.fit` as typed: precedence, help, and one line for every mistake."""

import inspect
import subprocess
import sys
import types

import pytest

import raymd
from raymd.config import FitConfig
from raymd.errors import RaymdError, UserError
from raymd.fit import build_parser, main, read_settings

STUDENTS = ["--students", "resnet8,resnet20"]


@pytest.fixture
def fitted(monkeypatch):
    """The configurations that reach fit(); nothing is trained."""
    received: list[FitConfig] = []
    execution = types.ModuleType("raymd.execution.run")
    execution.fit = lambda config, **_: received.append(config)
    monkeypatch.setitem(sys.modules, "raymd.execution.run", execution)
    preview = types.ModuleType("raymd.execution.preview")
    preview.show_plan = lambda config: received.append(("plan", config))
    monkeypatch.setitem(sys.modules, "raymd.execution.preview", preview)
    return received


def fail_with(monkeypatch, error):
    def fit(config, **_):
        raise error

    execution = types.ModuleType("raymd.execution.run")
    execution.fit = fit
    monkeypatch.setitem(sys.modules, "raymd.execution.run", execution)


# what is typed, and what the one line has to say
MISTAKES = [
    ("", ["no students", "--students resnet18,resnet50"]),
    ("--students", ["--students needs a value"]),
    ("--students resnet9", ["'resnet9'", "resnet8", "--students"]),
    ("--students resnet8, resnet20", ["'resnet20'", "no spaces"]),
    ("resnet8", ["'resnet8'", "--students"]),
    ("--student resnet8", ["--student:", "did you mean --students"]),
    ("--students resnet8 --epoch 3", ["--epoch:", "did you mean --epochs"]),
    ("--students resnet8 --val-fraction 0.1", ["--val-fraction:", "--val_fraction"]),
    ("--students resnet8 --lrdrop=cycle", ["--lrdrop:", "--lr_drop"]),
    ("--students resnet8 --zzzzzz", ["--zzzzzz: see --help"]),
    ("--students resnet8 -x", ["'-x'"]),
    ("--students resnet8 --epochs 1.5", ["'1.5'", "whole number", "--epochs"]),
    ("--students resnet8 --epochs", ["--epochs needs a value"]),
    ("--students resnet8 --epochs ten", ["'ten'", "whole number", "--epochs"]),
    ("--students resnet8 --epochs 0", ["'0'", "at least 1", "--epochs"]),
    ("--students resnet8 --t 0", ["'0'", "above 0", "--t"]),
    ("--students resnet8 --t -1", ["'-1'", "above 0", "--t"]),
    ("--students resnet8 --t nan", ["'nan'", "a number", "--t"]),
    ("--students resnet8 --lr=-1e-3", ["'-1e-3'", "above 0", "--lr"]),
    ("--students resnet8 --method mdd", ["'mdd'", "md", "--method"]),
    ("--students resnet8 --dataset cifar", ["'cifar'", "cifar10", "--dataset"]),
    ("--students resnet8 --precision bf32", ["'bf32'", "bf16", "--precision"]),
    ("--students resnet8 --kl_scale t", ["'t'", "--kl_scale"]),
    ("--students resnet8 --val_fraction 1", ["'1'", "below 1", "--val_fraction"]),
    ("--students resnet8 --student.resnet9.lr 1", ["'resnet9'", "did you mean resnet8"]),
    ("--students resnet8 --student.resnet8.rl 1", ["'rl'", "lr"]),
    ("--students resnet8 --student.resnet8.lr", ["--student.resnet8.lr needs a value"]),
    ("--students resnet8 --student.lr 1", ["--student.lr: takes", "--student.resnet50.lr"]),
    ("--students resnet8 --student.resnet8.lr=x", ["'resnet8'", "'x'", "a number"]),
    ("--students resnet8 --device gpu", ["'gpu'", "cuda", "--device"]),
    ("--students resnet8 --checkpoint_every 5", ["'5'", "500steps", "--checkpoint_every"]),
    ("--students resnet8 --recipe imagnet", ["'imagnet'", "imagenet", "--recipe"]),
    ("--students resnet8 --pretrained --init_from x", ["--pretrained", "--init_from"]),
    ("--students resnet8 --name a/b", ["'a/b'", "--name"]),
    ("--students resnet8 --resume=perhaps", ["'perhaps'", "auto", "--resume"]),
    ("--config", ["--config needs a value"]),
    ("--config {dir}/none.yaml", ["none.yaml", "No such file", "--config"]),
    ("--config {dir}", ["directory", "--config"]),
    ("--config {dir}/broken.yaml", ["not valid YAML", "line"]),
    ("--config {dir}/binary.yaml", ["binary.yaml", "not a text file"]),
    ("--config {dir}/list.yaml", ["'- resnet8'"]),
    ("--config {dir}/unknown.yaml", ["'epoch'", "epochs"]),
    ("--config {dir}/typed.yaml", ["t 'warm'", "a number"]),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "broken.yaml").write_text("students: [resnet8\nt: 3")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "list.yaml").write_text("- resnet8")
    (tmp_path / "unknown.yaml").write_text("students: resnet8\nepoch: 3")
    (tmp_path / "typed.yaml").write_text("students: resnet8\nt: warm")
    return tmp_path


@pytest.mark.parametrize(("typed", "words"), MISTAKES)
def test_mistake_is_answered_in_one_line(typed, words, folder, fitted, capsys):
    argv = [word.replace("{dir}", str(folder)) for word in typed.split()]
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("raymd: error: ")
    assert err.count("\n") == 1
    assert [word for word in words if word not in err] == []
    assert fitted == []


def test_flag_goes_over_yaml_which_goes_over_default(fitted, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("students: resnet8,resnet20\nt: 4\ntd: 9\nepochs: 7\n")
    # wherever --config stands in the line
    assert main(["--td", "5", "--config", str(path), "--epochs", "null"]) == 0
    (config,) = fitted
    assert (config.t, config.td, config.epochs, config.momentum) == (4.0, 5, None, None)
    assert config.students == ("resnet8", "resnet20")


def test_flags_reach_fit_in_their_types(fitted):
    line = "--lr 1e-4 --subset 50 --precision fp16 --name 7 --verbose false --seed 3"
    assert main([*STUDENTS, *line.split()]) == 0
    assert fitted == [
        FitConfig(
            students=("resnet8", "resnet20"),
            lr=0.0001,
            subset=50,
            precision="fp16",
            name="7",
            seed=3,
        )
    ]


def test_default_dataset_is_announced_and_a_named_one_is_not(fitted, capsys):
    main(STUDENTS)
    out = capsys.readouterr().out
    assert "digits" in out
    assert "--dataset cifar10" in out
    assert "--dataset folder:DIR" in out
    main([*STUDENTS, "--dataset", "digits"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "code"), [(UserError("no room\nfor it"), 2), (RaymdError("it went wrong"), 1)]
)
def test_error_of_a_run_is_one_line_and_its_exit_code(monkeypatch, capsys, error, code):
    fail_with(monkeypatch, error)
    assert main(STUDENTS) == code
    assert capsys.readouterr().err == f"raymd: error: {' '.join(str(error).split())}\n"


def test_interrupt_ends_with_130_and_tells_of_resume(monkeypatch, capsys):
    fail_with(monkeypatch, KeyboardInterrupt())
    assert main(STUDENTS) == 130
    assert "--resume" in capsys.readouterr().err


def test_a_defect_is_not_taken_for_a_users_mistake(monkeypatch):
    fail_with(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(STUDENTS)


def test_help_shows_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert {n for n in FitConfig.__dataclass_fields__ if f"--{n} " not in text} == {"student"}
    assert "temperature of the soft labels (above 0) (default: 3.0)" in text
    assert "%%" not in text


def test_parser_keeps_values_as_texts():
    assert read_settings(["--t", "4"]) == {"t": "4"}
    assert vars(build_parser().parse_args([])) == {}


def test_flags_of_one_student_go_over_the_files(fitted, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("students: resnet8,resnet20\nstudent: {resnet8: {lr: 0.5, ema: 0.9}}\n")
    flags = "--student.resnet8.lr 0.2 --student.resnet20.compile --student.resnet20.momentum=0"
    assert main(["--config", str(path), *flags.split()]) == 0
    (config,) = fitted
    assert {student: options.said() for student, options in config.student.items()} == {
        "resnet8": {"lr": 0.2, "ema": 0.9},
        "resnet20": {"compile": True, "momentum": 0.0},
    }


def test_plan_trains_nothing_and_json_is_a_view(fitted):
    assert main([*STUDENTS, "--plan"]) == 0
    assert main([*STUDENTS, "--json"]) == 0
    assert fitted[0] == ("plan", FitConfig(students=("resnet8", "resnet20")))
    assert fitted[1].view == "json"


def test_printed_configuration_starts_the_same_run(fitted, tmp_path, capsys):
    assert main([*STUDENTS, "--t", "4", "--print_config"]) == 0
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out)
    assert fitted == []
    assert main(["--config", str(path)]) == 0
    assert fitted == [FitConfig(students=("resnet8", "resnet20"), t=4.0)]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["raymd", "raymd.config", "raymd.fit"])
def test_import_loads_neither_torch_nor_ray(module):
    loaded = run_python(
        f"import sys, {module}; print(sorted({{'torch', 'ray'}} & set(sys.modules)))"
    )
    assert loaded.strip() == "[]"


def test_driver_starts_without_torchvision_and_the_compiler_of_torch():
    loaded = run_python(
        "import sys, raymd.execution.run, raymd.models.registry as r; r.check_model('resnet8',"
        " num_classes=10, in_channels=3, image_size=32);"
        " print(sorted({'torchvision', 'torch._dynamo'} & set(sys.modules)))"
    )
    assert loaded.strip() == "[]"


def test_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "raymd.fit", "--students", "resnet9"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("raymd: error: unknown network 'resnet9'")


@pytest.mark.parametrize(
    "before", ["", "import raymd.fit", "from raymd.fit import main", "import raymd.config"]
)
def test_raymd_fit_stays_the_function(before):
    code = f"{before}\nimport raymd, inspect\nfrom raymd import fit\n" + (
        "assert raymd.fit is fit and inspect.isfunction(fit)\n"
        "import raymd.fit\n"
        "assert raymd.fit is fit\n"
        "from raymd.fit import main\n"
        "print(main.__module__)"
    )
    assert run_python(code).strip() == "raymd.fit"


def test_raymd_fit_calls_the_run(fitted):
    config = FitConfig(students="resnet8")
    raymd.fit(config)
    assert fitted == [config]
    assert list(inspect.signature(raymd.fit).parameters) == ["config", "console", "on_event"]
