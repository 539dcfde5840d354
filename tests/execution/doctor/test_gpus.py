"""GPUs, from facts written by hand and an nvidia-smi of this file."""

import pytest

from raymd.execution.doctor import gpu_facts
from raymd.execution.doctor.gpu_facts import Gpu, Gpus, cuda_of_driver, measure_gpus, read_gpus
from raymd.execution.doctor.gpus import judge_gpus
from tests.execution.doctor.facts import against, levels

TABLE = """\
0, NVIDIA H100 80GB HBM3, 550.54.15, 81559, 4, Disabled, 0
1, NVIDIA H100 80GB HBM3, 550.54.15, 81559, 70000, Enabled, 3
2, Tesla T4, 550.54.15, 15360, 1, [N/A], [N/A]
"""
HEADING = """\
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.54.15              Driver Version: 550.54.15      CUDA Version: 12.4     |
"""
SMI = f"""#!/bin/sh
if [ $# = 0 ]; then cat <<'END'
{HEADING}END
elif [ -n "$CUDA_VISIBLE_DEVICES" ]; then echo hidden
else cat <<'END'
{TABLE}END
fi
"""
GPU = Gpu(0, "Tesla T4", "550.54", 15 * 2**30, 2**20, ecc_errors=0)


def gpus(**changes):
    one = {"listed": (GPU,), "driver_cuda": "12.4", "torch_cuda": "12.6", "in_torch": ("",)}
    return Gpus(**{**one, **changes})


def judged(found, *, counted=1, device="auto"):
    verdicts = judge_gpus(found, against(gpus=counted, device=device))
    return levels(verdicts), " ".join(f"{v.found} {v.remedy}" for v in verdicts)


def test_table_of_nvidia_smi_is_read():
    first, second, third = read_gpus(TABLE)
    assert (first.index, first.name, first.driver) == (0, "NVIDIA H100 80GB HBM3", "550.54.15")
    assert (first.total_bytes, first.used_bytes) == (81559 * 2**20, 4 * 2**20)
    assert (first.is_split, second.is_split, third.is_split) == (False, True, False)
    assert (first.ecc_errors, second.ecc_errors, third.ecc_errors) == (0, 3, None)
    assert cuda_of_driver(HEADING) == "12.4"
    assert cuda_of_driver("CUDA Version                              : 13.0\n") == "13.0"
    assert cuda_of_driver("") is None


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """A machine with an nvidia-smi that tells of three GPUs unless it finds them hidden."""
    script = tmp_path / "nvidia-smi"
    script.write_text(SMI)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setattr(gpu_facts, "TRY", 'print(\'["", "", "OSError: bad"]\')')
    monkeypatch.setattr(gpu_facts, "_torch_cuda", lambda: "12.6")
    return script


def test_gpus_hidden_from_the_process_are_seen(smi):
    found = measure_gpus()
    assert found.listed == read_gpus(TABLE)
    assert (found.driver_cuda, found.torch_cuda, found.visible) == ("12.4", "12.6", "-1")
    assert found.in_torch == ("", "", "OSError: bad")


def test_torch_that_sees_no_gpu_says_why(smi, monkeypatch):
    monkeypatch.setattr(gpu_facts, "TRY", "raise RuntimeError('The driver is too old')")
    assert measure_gpus().in_torch == "RuntimeError: The driver is too old"


def test_torch_that_hangs_is_not_waited_for(smi, monkeypatch):
    monkeypatch.setattr(gpu_facts, "TRY", "import time; time.sleep(60)")
    monkeypatch.setattr(gpu_facts, "TORCH_S", 0.1)
    assert measure_gpus().in_torch == "torch did not answer within 0.1 s"


def test_nvidia_smi_that_fails_is_quoted(smi):
    smi.write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    assert measure_gpus().why_none == "NVIDIA-SMI has failed"


def test_machine_without_nvidia_smi_has_none_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (measure_gpus().listed, measure_gpus().why_none) == ((), "")


def test_gpus_that_are_well():
    assert judged(gpus()) == (
        ["ok"],
        "1 x Tesla T4; driver 550.54, CUDA up to 12.4; torch, for CUDA 12.6, computes on each ",
    )
    assert judged(Gpus(), counted=0) == (["ok"], "none ")


def test_gpus_that_are_not_to_be_used_are_not_judged():
    assert judged(gpus(in_torch="too old"), counted=5, device="cpu")[0] == ["ok"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Gpus(why_none="NVIDIA-SMI has failed", on_bus=1), "reboot"),
        (Gpus(on_bus=2), "2 NVIDIA GPUs, but no nvidia-smi"),
    ],
)
def test_gpus_without_a_driver_are_a_problem_where_they_are_needed(found, said):
    assert judged(found, counted=0)[0] == ["warning"]
    for counted, device in ((1, "auto"), (0, "cuda")):
        got, text = judged(found, counted=counted, device=device)
        assert got == ["problem"]
        assert said in text


def test_gpus_that_only_ray_knows_may_be_of_another_maker():
    assert judged(Gpus(), counted=2)[0] == ["warning"]


@pytest.mark.parametrize(("counted", "expected"), [(0, "warning"), (1, "ok"), (2, "problem")])
def test_ray_counts_more_or_less_than_there_are(counted, expected):
    found = gpus(visible="")
    assert judged(found, counted=counted)[0] == [expected]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"torch_cuda": None}, "built without CUDA"),
        ({"in_torch": "RuntimeError: too old", "torch_cuda": "13.0"}, "knows CUDA up to 12.4 and"),
        ({"in_torch": ()}, "it says nothing why"),
        ({"in_torch": ("CUDA error: no kernel image",)}, "GPU 0: CUDA error: no kernel image"),
    ],
)
def test_torch_that_cannot_compute_is_a_problem_where_ray_counts_gpus(changes, said):
    got, text = judged(gpus(**changes))
    assert got == ["problem"]
    assert said in text
    assert "warning" in judged(gpus(**changes), counted=0)[0]


def test_gpu_that_another_program_fills_is_a_warning():
    got, text = judged(gpus(in_torch=("OutOfMemoryError: CUDA out of memory",)))
    assert (got, "end what holds it" in text) == (["warning"], True)


def test_memory_errors_split_and_taken_gpus():
    found = gpus(listed=read_gpus(TABLE)[1:2])
    got, text = judged(found)
    assert got == ["warning", "note", "note"]
    assert "3 memory errors" in text
    assert "MIG" in text
    assert "73.4 GB of 85.5 GB are taken" in text


def test_split_gpus_may_be_fewer_than_ray_counts_by_whole_ones():
    assert (
        "warning"
        not in judged(gpus(listed=(Gpu(0, "A", "1", 10, 0, is_split=True),)), counted=0)[0]
    )


def test_node_for_cpus_whose_image_has_the_driver_is_well():
    found = Gpus(why_none="NVIDIA-SMI has failed")
    for device in ("auto", "cuda"):
        assert judged(found, counted=0, device=device)[0] == ["note"]
    assert judged(found, counted=1)[0] == ["problem"]


def test_instances_that_ray_was_told_of_are_no_problem():
    split = (Gpu(0, "A", "1", 10, 0, is_split=True),)
    assert judged(gpus(listed=split), counted=7)[0] == ["note"]
