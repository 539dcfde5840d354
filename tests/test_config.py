"""FitConfig, recipes and Settings: what was said, what follows from it, and what is refused."""

import dataclasses
import pickle
import re

import pytest
import yaml

import raymd
from raymd.config import (
    CheckpointEvery,
    FitConfig,
    commented_yaml,
    from_yaml,
    ordered_fields,
    parse_checkpoint_every,
    to_yaml,
)
from raymd.differences import differences
from raymd.distillation.methods import get_method
from raymd.distillation.schedule import build_schedule
from raymd.errors import UserError
from raymd.fields import about_of
from raymd.recipes import default_val_fraction, get_recipe, known_recipes, recipe_for
from raymd.resolve import resolve
from raymd.settings import Settings
from raymd.student_options import student_ids

DIGITS, CIFAR, IMAGENET = (get_recipe(name) for name in ("digits", "cifar", "imagenet"))
PAIR = ("resnet8", "resnet20")


def config(**settings) -> FitConfig:
    return FitConfig(**{"students": PAIR, **settings})


def settings_of(*, num_train=50_000, image_size=32, **said) -> Settings:
    return resolve(config(**said), num_train=num_train, image_size=image_size)[0]


def lines_of(*, num_train=50_000, image_size=32, **said) -> list[str]:
    return resolve(config(**said), num_train=num_train, image_size=image_size)[1]


# (setting, value received, what the one line has to say)
MISTAKES = [
    ("students", "resnet9", ["'resnet9'", "--students", "resnet8"]),
    ("students", "resnet8,,resnet20", ["'resnet8,,resnet20'", "commas", "--students"]),
    ("students", (), ["()", "--students"]),
    ("students", 8, ["8", "names", "--students"]),
    ("dataset", "cifar11", ["'cifar11'", "--dataset", "cifar10"]),
    ("method", "mdd", ["'mdd'", "--method", "md"]),
    ("t", 0, ["0", "above 0", "--t"]),
    ("t", -3.0, ["-3.0", "above 0", "--t"]),
    ("t", "hot", ["'hot'", "a number", "--t"]),
    ("t", float("nan"), ["nan", "a number", "--t"]),
    ("t", float("inf"), ["inf", "a number", "--t"]),
    ("t", None, ["None", "a number", "--t"]),
    ("epochs", 0, ["0", "at least 1", "--epochs"]),
    ("epochs", 1.5, ["1.5", "a whole number", "--epochs"]),
    ("epochs", True, ["True", "a whole number", "--epochs"]),
    ("epochs", "many", ["'many'", "a whole number", "--epochs"]),
    ("tin", 0, ["0", "at least 1", "--tin"]),
    ("td", 0, ["0", "at least 1", "--td"]),
    ("subset", 0, ["0", "at least 1", "--subset"]),
    ("lr", 0, ["0", "above 0", "--lr"]),
    ("lr", "1e400", ["'1e400'", "a number", "--lr"]),
    ("lr_drop", "cycles", ["'cycles'", "--lr_drop", "cycle"]),
    ("kl_scale", "t3", ["'t3'", "--kl_scale", "t2"]),
    ("precision", "fp8", ["'fp8'", "--precision", "fp16"]),
    ("batch_size", 0, ["0", "at least 1", "--batch_size"]),
    ("weight_decay", -1e-4, ["-0.0001", "at least 0", "--weight_decay"]),
    ("momentum", 1.0, ["1.0", "below 1", "--momentum"]),
    ("val_fraction", 1.0, ["1.0", "below 1", "--val_fraction"]),
    ("val_fraction", -0.1, ["-0.1", "at least 0", "--val_fraction"]),
    ("seed", -1, ["-1", "at least 0", "--seed"]),
    ("cpus_per_worker", 0, ["0", "above 0", "--cpus_per_worker"]),
    ("gpus_per_worker", -1, ["-1", "at least 0", "--gpus_per_worker"]),
    ("gpus_per_worker", 1.5, ["1.5", "whole number", "--gpus_per_worker"]),
    ("storage", "", ["''", "a text", "--storage"]),
    ("name", "a/b", ["'a/b'", "folder name", "--name"]),
    ("name", "..", ["'..'", "folder name", "--name"]),
    ("resume", "yes please", ["'yes please'", "auto", "--resume"]),
    ("verbose", 1, ["1", "true or false", "--verbose"]),
    ("optimizer", "adam", ["'adam'", "--optimizer", "adamw"]),
    ("lr_schedule", "cos", ["'cos'", "--lr_schedule", "cosine"]),
    ("ema", 1.0, ["1.0", "below 1", "--ema"]),
    ("label_smoothing", 1.0, ["1.0", "below 1", "--label_smoothing"]),
    ("grad_clip", -1, ["-1", "at least 0", "--grad_clip"]),
    ("workers_per_student", 0, ["0", "at least 1", "--workers_per_student"]),
    ("augment", "mixups", ["'mixups'", "mixup", "--augment"]),
    ("recipe", "imagnet", ["'imagnet'", "imagenet", "--recipe"]),
    ("recipe", "none.yaml", ["none.yaml", "No such file", "--recipe"]),
    ("device", "gpu", ["'gpu'", "cuda", "--device"]),
    ("image_size", 0, ["0", "at least 4", "--image_size"]),
    ("log", "wandbb", ["'wandbb'", "wandb", "--log"]),
    ("view", "lives", ["'lives'", "live", "--view"]),
    ("student", {"resnet9": {"lr": 1}}, ["'resnet9'", "resnet8", "--student.resnet9"]),
    ("student", "lr", ["'lr'", "--student.resnet8.lr 0.05"]),
]


@pytest.mark.parametrize(("setting", "value", "words"), MISTAKES)
def test_mistake_is_answered_with_value_limit_and_flag(setting, value, words):
    with pytest.raises(UserError) as caught:
        config(**{setting: value})
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith((setting, "unknown", str(value)))
    assert [word for word in words if word not in message] == []
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_texts_mean_what_a_flag_means():
    said = config(students="resnet8, resnet20", epochs="24", t="4", lr="1e-4", resume="true")
    assert said == config(epochs=24, t=4.0, lr=0.0001, resume=True)
    assert isinstance(said.t, float)
    assert config(name="null", lr="None").lr is None
    assert config(kl_scale="none").kl_scale == "none"


def test_every_setting_is_documented():
    assert all(len(about_of(entry).help) > 4 for entry in dataclasses.fields(FitConfig))


def test_config_cannot_be_changed_but_replaced():
    said = config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        said.t = 4.0
    assert dataclasses.replace(said, t=4).t == 4.0
    with pytest.raises(UserError, match="--t"):
        dataclasses.replace(said, t=0)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"epochs": 3, "lr": 1e-5, "precision": "bf16", "name": "2024", "resume": True},
        {"students": "resnet8", "storage": "s3://bucket/ünter uns", "val_fraction": 0},
        {"student": {"resnet20": {"lr": 0.5, "pretrained": False}}, "augment": "mixup"},
    ],
)
def test_yaml_round_trip(said):
    assert from_yaml(to_yaml(config(**said))) == config(**said)


def test_yaml_holds_every_setting_in_order():
    names = [entry.name for entry in ordered_fields()]
    assert sorted(names) == sorted(FitConfig.__dataclass_fields__)
    assert names[0] == "students"
    assert list(yaml.safe_load(to_yaml(config()))) == names


def test_printed_configuration_is_one_that_config_takes():
    said = config(t=4, student={"resnet8": {"lr": "0.05"}}, augment="crop-flip,mixup")
    text = commented_yaml(said)
    assert from_yaml(text) == said
    assert "# temperature of the soft labels" in text


def test_yaml_takes_list_comma_string_and_bare_exponent():
    assert from_yaml("students: [resnet8, resnet20]") == config()
    assert from_yaml("students: resnet8,resnet20\nlr: 1e-4\n").lr == 0.0001


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("students: resnet8\nepoch: 3", ["'epoch'", "epochs"]),
        ("students: resnet8\n3: 3", ["'3'", "known:"]),
        ("students: [", ["not valid YAML", "line 1"]),
        ("- resnet8", ["'- resnet8'", "t: 3.0"]),
        ("", ["no students", "--students resnet18,resnet50"]),
        ("students:", ["no students"]),
        ("students: resnet8\nt: [3]", ["t [3]", "a number"]),
        ("students: resnet8\nkl_scale: [t2]", ["kl_scale", "t2"]),
    ],
)
def test_wrong_yaml_is_answered_in_one_line(text, words):
    with pytest.raises(UserError) as caught:
        from_yaml(text)
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []


def test_student_ids_number_repeats_and_suit_folders():
    assert student_ids(["resnet8", "alexnet", "resnet8", "resnet8"]) == (
        "resnet8",
        "alexnet",
        "resnet8-2",
        "resnet8-3",
    )
    assert student_ids(["timm:a/b", "timm-a-b", "../x"]) == ("timm-a-b", "timm-a-b-2", "x")
    assert student_ids(["a-2", "a", "a"]) == ("a-2", "a", "a-3")


@pytest.mark.parametrize(
    ("dataset", "image_size", "recipe"),
    [
        ("digits", 8, DIGITS),
        ("cifar10", 32, CIFAR),
        ("parquet:digits", 64, CIFAR),
        ("parquet:x", 65, IMAGENET),
    ],
)
def test_recipe_follows_data_and_size(dataset, image_size, recipe):
    assert recipe_for(dataset, image_size=image_size) is recipe


def test_recipes_carry_the_papers_numbers():
    assert CIFAR.run == {"epochs": 320, "tin": 10, "td": 30}
    assert IMAGENET.run == {"epochs": 120, "tin": 5, "td": 10}
    assert CIFAR.options("densenet100")["batch_size"] == 64
    assert CIFAR.options("resnet110")["batch_size"] == 128
    assert IMAGENET.options("resnet18")["batch_size"] == 256
    decays = [CIFAR.options(a)["weight_decay"] for a in ("alexnet", "vgg19", "resnet110")]
    assert decays == [5e-4, 5e-4, 1e-4]
    assert IMAGENET.options("alexnet")["weight_decay"] == 1e-4


def test_networks_without_batchnorm_start_lower_on_imagenet_alone():
    archs = ("alexnet", "squeezenet1_1", "resnet18")
    assert [IMAGENET.options(arch)["lr"] for arch in archs] == [0.01, 0.01, 0.1]
    assert [CIFAR.options(arch)["lr"] for arch in archs] == [0.1, 0.1, 0.1]


def test_every_recipe_drops_its_learning_rate_between_cycles():
    assert {"digits", "mnist", "cifar", "imagenet", "finetune"} <= set(known_recipes())
    for recipe in map(get_recipe, known_recipes()):
        said = {k: recipe.run[k] for k in ("epochs", "tin", "td", "lr_drop") if k in recipe.run}
        schedule = build_schedule(method=get_method("md"), **{"lr_drop": "exact", **said})
        assert min(epoch.lr_factor for epoch in schedule.epochs) < 1
        assert schedule.first_drop_inside_distillation() is None


def test_val_fraction_depends_on_training_images_after_subset():
    assert [default_val_fraction(n) for n in (19_999, 20_000)] == [0.1, 0.02]
    assert settings_of().val_fraction == 0.02
    assert settings_of(subset=5_000).val_fraction == 0.1
    assert settings_of(subset=5_000, num_train=5_000).val_fraction == 0.1
    assert settings_of(val_fraction=0).val_fraction == 0.0


def test_resolve_leaves_nothing_open():
    settings = settings_of(dataset="digits", image_size=8, num_train=1437)
    assert (settings.epochs, settings.tin, settings.td) == (6, 2, 1)
    assert settings.lr_drop == "cycle"
    assert [s.lr for s in settings.students] == [0.0025, 0.0025]
    left_open = [k for k, v in settings.to_dict().items() if v is None]
    assert left_open == ["subset", "image_size", "augment"]
    assert [k for k, v in vars(settings.students[0]).items() if v is None] == ["init_from"]


def test_what_was_said_goes_over_the_recipe():
    settings = settings_of(
        dataset="cifar10", epochs=9, tin=1, td=2, lr=0.5, batch_size=7, weight_decay=0
    )
    assert (settings.epochs, settings.tin, settings.td) == (9, 1, 2)
    student = settings.students[1]
    assert (student.id, student.lr, student.batch_size, student.weight_decay) == (
        "resnet20",
        0.5,
        7,
        0.0,
    )


def test_recipe_choices_are_announced_and_only_those():
    (recipe_line, val_line) = lines_of(dataset="cifar10", students="alexnet,resnet8", lr=0.5)
    assert "recipe 'cifar'" in recipe_line
    assert "epochs 320" in recipe_line
    assert "weight_decay 0.0005 (alexnet) / 0.0001 (resnet8)" in recipe_line
    assert ", lr 0" not in recipe_line
    assert val_line.startswith("val_fraction 0.02")


def test_drop_inside_a_distillation_phase_is_warned_of():
    warned = [line for line in lines_of(dataset="cifar10", epochs=120) if "warning" in line]
    assert len(warned) == 1
    assert "epoch 61," in warned[0]
    assert "--lr_drop cycle" in warned[0]
    for quiet in ({"epochs": 320}, {"epochs": 120, "lr_drop": "cycle"}, {"method": "independent"}):
        assert not [line for line in lines_of(dataset="cifar10", **quiet) if "warning" in line]


def test_one_students_options_go_over_all_students_and_the_recipe():
    settings = settings_of(lr=0.5, student={"resnet20": {"lr": "0.05", "ema": 0.99}})
    assert [(s.lr, s.ema) for s in settings.students] == [(0.5, 0.0), (0.05, 0.99)]
    assert Settings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lrr": 1}, ["'lrr'", "'resnet8'", "did you mean lr?"]),
        ({"lr": 0}, ["student 'resnet8'", "lr 0", "above 0"]),
        ({"epochs": 3}, ["'epochs'", "warmup_epochs"]),
        (3, ["'resnet8'", "3"]),
        (
            {"pretrained": True, "init_from": "x"},
            ["--student.resnet8.pretrained", "--student.resnet8.init_from"],
        ),
    ],
)
def test_wrong_option_of_one_student_is_answered_in_one_line(options, words):
    with pytest.raises(UserError) as caught:
        config(student={"resnet8": options})
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []


def test_adamw_and_trained_weights_bring_their_own_rates():
    (plain,) = settings_of(students="resnet8", dataset="cifar10").students
    (adamw,) = settings_of(students="resnet8", dataset="cifar10", optimizer="adamw").students
    assert (plain.lr, adamw.lr, adamw.weight_decay) == (0.1, 0.001, 0.05)
    said = {"students": "resnet8", "dataset": "cifar10", "init_from": "runs/x"}
    assert settings_of(**said).students[0].lr == pytest.approx(0.01)
    assert any("lower than random weights" in line for line in lines_of(**said))
    assert any("may throw them away" in line for line in lines_of(**said, lr=0.1))
    assert not any("trained weights" in line for line in lines_of(**said, lr=0.01))


def test_named_recipe_goes_over_the_data_sets():
    settings = settings_of(recipe="finetune", init_from="w.safetensors")
    assert (settings.epochs, settings.students[0].lr_schedule) == (20, "cosine")
    assert settings.students[0].lr == 0.01
    assert any("no student begins" in line for line in lines_of(recipe="finetune"))


def test_recipe_of_ones_own_is_read_and_checked(tmp_path):
    path = tmp_path / "mine.yaml"
    whole = "epochs: 9\ntin: 1\ntd: 2\nlr: 1e-4\nbatch_size: 8\n"
    path.write_text(whole)
    settings = settings_of(recipe=str(path))
    assert (settings.epochs, settings.students[0].lr) == (9, 0.0001)
    path.write_text(whole.replace("9", "8"))
    assert settings_of(recipe=str(path)).epochs == 8  # read again in the same process
    for text, word in [
        ("epochs: 9", "says tin"),
        ("epoch: 9", "'epoch'"),
        ("[", "--recipe"),
        ("3", "lines like"),
        ("epochs: 9\ntin: 1\ntd: 2\nlr: -1\nbatch_size: 8\n", "lr -1"),
        ("epochs: null\ntin: 1\ntd: 2\nlr: 1\nbatch_size: 8\n", "says epochs"),
        ("epochs: 9\ntin: 1\ntd: 2\nlr: null\nbatch_size: 8\n", "says lr"),
        (f"{whole}by_family: {{resnet: null}}", "resnet None: takes options"),
        (f"{whole}by_family: 3", "by_family 3: takes options"),
        (f"{whole}by_family: {{resnet: {{lrr: 1}}}}", "'lrr'.*did you mean lr"),
        (f"{whole}adamw: {{lr_times: 0.1}}", "'lr_times'"),
        (f"{whole}trained_weights: {{lr_times: 0}}", "lr_times 0.*above 0"),
    ]:
        wrong = tmp_path / f"{abs(hash(text))}.yaml"
        wrong.write_text(text)
        with pytest.raises(UserError, match=word):
            config(recipe=str(wrong))


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("90s", CheckpointEvery(seconds=90.0)),
        ("1.5 min", CheckpointEvery(seconds=90.0)),
        ("1h", CheckpointEvery(seconds=3600.0)),
        ("500steps", CheckpointEvery(steps=500)),
        ("1epoch", CheckpointEvery(epochs=1)),
    ],
)
def test_checkpoint_interval_is_read(text, every):
    assert parse_checkpoint_every(text) == every


@pytest.mark.parametrize("text", ["often", "0s", "60", "1.5steps", "-3m", ""])
def test_wrong_checkpoint_interval_is_refused_with_examples(text):
    with pytest.raises(UserError, match=r"500steps.*--checkpoint_every"):
        parse_checkpoint_every(text)


def test_budget_without_distillation_is_announced():
    assert any("all of them independent" in line for line in lines_of(dataset="cifar10", epochs=10))
    assert not any("independent" in line for line in lines_of(dataset="cifar10", epochs=11))


def test_settings_round_trip_through_dict_and_pickle():
    settings = settings_of(dataset="cifar10", subset=100)
    assert Settings.from_dict(settings.to_dict()) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize("where", ["run", "student"])
def test_settings_of_another_version_are_refused(where):
    saved = settings_of().to_dict()
    target = saved if where == "run" else saved["students"][0]
    target["novelty"] = target.pop("lr_drop" if where == "run" else "lr")
    with pytest.raises(UserError, match=r"unknown \['novelty'\], missing \['lr"):
        Settings.from_dict(saved)


def test_differences_name_field_values_and_flag():
    run = settings_of()
    assert differences(run, settings_of()) == []
    assert differences(run, settings_of(t=4)) == ["t: 3.0 in the run, 4.0 asked for (--t)"]
    assert differences(run, settings_of(lr=0.5)) == [
        "resnet8's lr: 0.0025 in the run, 0.5 asked for (--lr)",
        "resnet20's lr: 0.0025 in the run, 0.5 asked for (--lr)",
    ]
    assert differences(run, settings_of(students="resnet8")) == [
        "students: resnet8,resnet20 in the run, resnet8 asked for (--students)"
    ]
    assert len(differences(run, settings_of(dataset="cifar10"))) > 4


def test_order_of_students_is_no_difference():
    assert differences(settings_of(), settings_of(students=PAIR[::-1])) == []


def test_every_science_field_shows_as_a_difference():
    run = settings_of()
    for entry in dataclasses.fields(Settings):
        if entry.name not in ("students", "teachers"):
            changed = dataclasses.replace(run, **{entry.name: "another"})
            assert [entry.name in line for line in differences(run, changed)] == [True]


def test_public_face_gives_the_config():
    assert raymd.FitConfig is FitConfig
    assert set(raymd.__all__) <= set(dir(raymd))
    with pytest.raises(AttributeError, match="'fitt'"):
        _ = raymd.fitt


def test_absolute_paths_are_those_of_the_folder_stood_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("{epochs: 9, tin: 1, td: 2, lr: 0.1, batch_size: 8}")
    said = config(
        dataset="folder:photos", data_dir="data", recipe="mine.yaml", init_from="runs/a::b",
        student={"resnet8": {"init_from": "s3://bucket/run"}},
    )  # fmt: skip
    moved = said.with_absolute_paths()
    assert moved.dataset == f"folder:{tmp_path}/photos"
    assert (moved.data_dir, moved.recipe) == (f"{tmp_path}/data", f"{tmp_path}/mine.yaml")
    assert moved.init_from == f"{tmp_path}/runs/a::b"
    assert moved.student["resnet8"].init_from == "s3://bucket/run"
    assert moved.with_absolute_paths() == moved
    assert moved.storage == f"{tmp_path}/runs"
    assert config(data_dir="../x").with_absolute_paths().data_dir == f"{tmp_path.parent}/x"
    assert config(data_cache="x").with_absolute_paths().data_cache == f"{tmp_path}/x"


def test_uris_are_not_taken_for_paths() -> None:
    far = config(
        dataset="folder:s3://bucket/a", data_dir="gs://bucket/b?x=1", storage="s3://bucket/runs/",
        init_from="s3://bucket/runs/c::d", teachers="resnet8:s3://bucket/runs/e",
    )  # fmt: skip
    assert far.with_absolute_paths() == far
    assert config(storage="s3://bucket").with_absolute_paths().storage == "s3://bucket"


@pytest.mark.parametrize("text", ["t: 3\nt: 4", "student: {resnet8: {lr: 1, lr: 2}}"])
def test_key_that_is_there_twice_is_refused(text):
    with pytest.raises(UserError, match=r"'(t|lr)' is there twice.*line"):
        from_yaml(f"students: resnet8\n{text}")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("leraning_rate", "lr"),
        ("learning-rate", "lr"),
        ("temperature", "t"),
        ("Models", "students"),
    ],
)
def test_names_that_others_use_lead_to_ours(wrong, right):
    with pytest.raises(UserError, match=f"did you mean {right}"):
        FitConfig.from_mapping({"students": "resnet8", wrong: 1})


def test_few_steps_an_epoch_are_warned_of_unless_the_batch_size_was_said():
    few = {"dataset": "cifar10", "num_train": 131}
    (line,) = [line for line in lines_of(**few) if "steps an epoch" in line]
    assert line.startswith("warning: resnet8 has 2 steps an epoch of 131 images")
    assert "--batch_size 8 --lr 0.006" in line
    assert not any("an epoch of" in line for line in lines_of(**few, batch_size=128))
    assert not any("an epoch of" in line for line in lines_of(dataset="cifar10"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"students": "resnet8", "method": "dml"}, "method dml with 1 student"),
        ({"students": "resnet8", "method": "codistill"}, "takes 2 or more"),
        ({"method": "kd"}, "--teachers resnet50:runs/NAME"),
        ({"method": "independent", "teachers": "resnet8:runs/a"}, "has no use for frozen"),
        ({"method": "dml", "teacher": "live"}, "teacher live: method dml publishes nothing"),
        ({"teacher": "live", "views": 2}, "views 2: only stored soft labels"),
        ({"views": 2, "teachers": "resnet8:runs/a"}, "they publish once"),
        ({"soft_labels": "top_k"}, "soft_labels 'top_k': takes dense, or top_k:K"),
        ({"soft_labels": "top_k:4", "method": "dml"}, "soft_labels top_k:4 float16: method dml"),
        ({"soft_label_dtype": "float32", "teacher": "live"}, "soft_labels float32: method md"),
        ({"method": "independent", "teacher": "live"}, "method independent publishes nothing"),
        ({"method": "kd", "teacher": "stored"}, "--method kd-stored"),
        ({"method": "dml", "weights": "accuracy"}, "weights accuracy: method dml weighs nobody"),
        ({"method": "dml", "data_split": "disjoint"}, "data_split disjoint: students of method"),
        ({"method": "dml", "correct_only": True}, "correct_only True: students of method dml"),
        ({"method": "dml", "kd_ramp": 2}, "kd_ramp 2: counts cycles"),
        ({"kd_until": "soon"}, "kd_until 'soon': takes the number of an epoch"),
        ({"publish": "ema"}, "publish ema: resnet8 keeps no average"),
        ({"weights": "inverse_loss", "val_fraction": 0}, "losses are measured on held-out"),
        (
            {"method": "dml", "student": {"resnet8": {"batch_size": 8}}},
            "batch_size 8 of resnet8, 128 of resnet20",
        ),
    ],
)
def test_options_of_teaching_that_do_not_go_together_are_refused(changes, said):
    with pytest.raises(UserError, match=re.escape(said)):
        settings_of(**{"dataset": "cifar10", **changes})


@pytest.mark.parametrize(
    ("teachers", "said"),
    [
        ("resnet8", "whose weights?"),
        ("resnt8:runs/a", "did you mean resnet8"),
        ("timm:resnet18", "whose weights?"),
    ],
)
def test_teachers_need_a_network_and_its_weights(teachers, said):
    with pytest.raises(UserError, match=re.escape(said)):
        config(teachers=teachers)


def test_teachers_have_ids_of_their_own_and_absolute_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {"dataset": "cifar10", "teachers": "resnet8:runs/a,my.nets:tiny:w.safetensors"}
    settings = settings_of(**asked)
    found = [(t.id, t.arch, t.source) for t in settings.teachers]
    assert found == [
        ("resnet8-2", "resnet8", str(tmp_path / "runs/a")),
        ("my.nets-tiny", "my.nets:tiny", str(tmp_path / "w.safetensors")),
    ]
    assert Settings.from_dict(settings.to_dict()) == settings
    assert settings.publishers == ("resnet8", "resnet20", "resnet8-2", "my.nets-tiny")


def test_dml_has_no_student_to_lose():
    with pytest.raises(UserError, match="none can go on without another"):
        config(method="dml", on_student_loss="continue")


def test_recipe_may_decide_on_teaching_and_a_flag_goes_over_it(tmp_path):
    recipe = tmp_path / "live.yaml"
    recipe.write_text("{epochs: 9, tin: 1, td: 2, lr: 0.1, batch_size: 8, teacher: live}")
    assert settings_of(recipe=str(recipe)).teacher == "live"
    assert settings_of(recipe=str(recipe), teacher="stored").teacher == "stored"
    assert settings_of(recipe=str(recipe)).weights == "accuracy"
    assert settings_of(recipe=str(recipe), method="ec-dnn").weights == "uniform"


def test_order_of_students_changes_nothing_of_those_that_train_together():
    one = settings_of(method="dml", dataset="cifar10", students="resnet8,resnet20")
    other = settings_of(method="dml", dataset="cifar10", students="resnet20,resnet8")
    assert list(one.units) == list(other.units) == ["resnet20+resnet8"]
    assert differences(one, other) == []


def test_students_with_parts_of_their_own_have_so_many_images():
    assert settings_of(dataset="cifar10").samples_of_each(100) == 100
    assert settings_of(dataset="cifar10", data_split="disjoint").samples_of_each(101) == 50


def test_more_classes_to_keep_than_there_are_are_refused():
    kept = settings_of(dataset="cifar10", soft_labels="top_k:10")
    kept.check_classes(10)
    with pytest.raises(UserError, match="top_k:10: the data set has 9 classes, so K is 1 to 9"):
        kept.check_classes(9)
