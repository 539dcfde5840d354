"""fit() as a function: in a thread of a program that has a Ray and a network of its own."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = textwrap.dedent("""
    import json, sys, threading, time
    import ray, torch
    import raymd

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
             logging_level="ERROR")

    @raymd.register_model("mine")
    def mine(*, num_classes, in_channels, image_size):
        size = in_channels * image_size * image_size
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size, num_classes))

    events, outcome = [], {}
    config = raymd.FitConfig(
        students=("mine", "resnet8"), student={"resnet8": {"workers_per_student": 2}},
        subset=200, epochs=3, tin=1, td=1, cpus_per_worker=0.5, storage=sys.argv[1], name="run",
        view="none",
    )

    def train():  # as a notebook server or a larger program would call it
        result = raymd.fit(config, on_event=events.append)
        outcome["best"] = result.best_student
        outcome["students"] = list(result.students_frame()["student"])
        outcome["epochs"] = len(result.history_frame())
        outcome["traces"] = len(result.plot().data)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    outcome["kinds"] = [event["event"] for event in events]
    outcome["workers"] = {e["student"]: e["workers"] for e in events if e["event"] == "started"}
    outcome["ray"] = ray.is_initialized() and ray.get(ray.remote(lambda: 7).remote())
    until = time.monotonic() + 60  # the cluster's admission actor ends itself after some seconds
    while time.monotonic() < until:
        actors = ray.util.list_named_actors(all_namespaces=True)
        outcome["left"] = [actor for actor in actors if actor["namespace"] == "raymd"]
        outcome["free"] = ray.available_resources().get("CPU")
        if not outcome["left"] and outcome["free"] == 2.0:
            break
        time.sleep(0.5)
    print(json.dumps(outcome))
    ray.shutdown()
""")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_fit_inside_another_ray_program_leaves_its_ray_as_it_was(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "runs")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)  # view none: nothing else was printed
    assert outcome["best"] in ("mine", "resnet8")
    assert outcome["students"] == ["mine", "resnet8", "ensemble"]
    assert outcome["epochs"] == 6
    assert outcome["traces"] > 2
    assert outcome["kinds"][0] == "run_started"
    assert outcome["kinds"][-1] == "run_finished"
    assert outcome["kinds"].count("epoch") == 6
    assert outcome["workers"] == {"mine": 1, "resnet8": 2}
    assert (outcome["ray"], outcome["left"], outcome["free"]) == (7, [], 2.0)
