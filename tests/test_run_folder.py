"""Where a run's files lie: names that other programs may rely on."""

from raymd import run_folder


def test_names_in_the_run_directory() -> None:
    assert run_folder.history_part("vgg19", 3) == "history/vgg19/part-00003.jsonl"
    assert run_folder.model_record("vgg19") == "students/vgg19/model.json"
    assert run_folder.weights_file("vgg19", "best") == "students/vgg19/best.safetensors"
    assert run_folder.checkpoints_folder("vgg19") == "students/vgg19/checkpoints"
