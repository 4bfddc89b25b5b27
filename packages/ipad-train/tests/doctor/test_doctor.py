"""The doctor, on this machine as it is and on real broken states of it."""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import subprocess

import pytest
import yaml
from click.testing import CliRunner

from ipad_train.cli import main
from ipad_train.config_files import load_config
from ipad_train.doctor import installed
from ipad_train.doctor.finding import BROKEN, CARE, OK, Finding, as_text
from ipad_train.doctor.installed import check_deepspeed, check_requirements, check_torch_pair
from ipad_train.doctor.launching import (
    check_environment,
    check_host_name,
    check_launcher_config,
    check_port,
    default_config_path,
    is_free,
)
from ipad_train.doctor.machine import check_devices, check_disk, check_shared_memory, check_threads, checkpoint_bytes
from ipad_train.threads import available_cores


@pytest.fixture(scope="module", autouse=True)
def _deepspeed_is_tried_once():
    """Whether DeepSpeed imports is tried in a process that imports it, with the same answer for every test here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installed, "_import_deepspeed", functools.cache(installed._import_deepspeed))
        yield


@pytest.fixture
def config():
    return load_config("tiny")


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of one MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("mounting a small disk takes root")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture
def taken_port():
    """A port that somebody listens at."""
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        yield server.getsockname()[1]


def test_this_machine_can_train(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["doctor", f"output_dir={tmp_path / 'run'}"])
    assert result.exit_code == 0, result.output
    assert result.output.strip().endswith("training can start")
    for name in (
        "packages",
        "torch and torchvision",
        "DeepSpeed",
        "devices",
        "port",
        "threads",
        "/dev/shm",
        "output_dir",
    ):
        assert name in result.output
    assert not (tmp_path / "run").exists()


def test_a_torchvision_built_for_another_torch_is_named_with_the_pair(run_process, tmp_path):
    (tmp_path / "broken" / "torchvision").mkdir(parents=True)
    (tmp_path / "broken" / "torchvision" / "__init__.py").write_text(
        'raise RuntimeError("operator torchvision::nms does not exist")\n'
    )
    path = os.pathsep.join(filter(None, [str(tmp_path / "broken"), os.environ.get("PYTHONPATH")]))
    result = run_process(
        ["-m", "ipad_train", "doctor", f"output_dir={tmp_path / 'run'}"],
        check=False,
        PYTHONPATH=path,
        HF_HOME=str(tmp_path),
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "does not import beside torch" in result.stdout
    assert "operator torchvision::nms does not exist" in result.stdout
    assert '-> pip install "torch==' in result.stdout
    assert "1 to be mended before training can start" in result.stdout


def test_the_pair_is_compared_by_release():
    def absent(name):
        raise ImportError("libcudart.so.13: cannot open shared object file")

    found = check_torch_pair(absent)
    assert found.state == BROKEN
    assert "libcudart.so.13" in found.found
    assert check_torch_pair().state in (OK, CARE)


def test_a_missing_or_an_old_package_is_named_with_the_command():
    found = check_requirements(["click>=8", "numpy>=99", "no-such-package>=1", 'no-extra>=1; extra == "report"'])
    assert found.state == BROKEN
    assert "no-such-package is missing" in found.found
    assert found.mend == 'pip install "numpy>=99" "no-such-package>=1"'
    assert check_requirements().state == OK


def test_deepspeed_counts_where_it_is_asked_for():
    pytest.importorskip("deepspeed")
    assert check_deepspeed(True, lambda: None).state == OK
    broken = check_deepspeed(True, lambda: "ImportError: cannot import name 'x'")
    assert broken.state == BROKEN
    assert "cannot import name 'x'" in broken.found
    assert check_deepspeed(False, lambda: "ImportError: y").state == CARE


def test_a_port_in_use_stops_several_processes_and_another_one_is_offered(taken_port, config):
    assert not is_free(taken_port)
    found = check_port(2, {"main_process_port": taken_port}, {})
    assert found.state == BROKEN
    assert f"{taken_port} is in use" in found.found
    other = int(found.mend.split("--main_process_port ")[1].split()[0])
    assert is_free(other)
    assert check_port(1, {}, {"MASTER_PORT": str(taken_port)}).state == CARE
    assert check_port(2, {}, {"MASTER_PORT": str(other)}).state == OK
    assert check_port(2, {}, {"MASTER_PORT": "x"}).state == BROKEN


def test_a_taken_port_and_a_bad_configuration_end_with_code_1(taken_port, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    path = default_config_path()
    path.parent.mkdir()
    path.write_text(
        yaml.safe_dump({"distributed_type": "MULTI_CPU", "num_processes": 2, "main_process_port": taken_port})
    )
    result = CliRunner().invoke(main, ["doctor", f"output_dir={tmp_path / 'run'}"])
    assert result.exit_code == 1, result.output
    assert f"{taken_port} is in use" in result.output
    path.write_text(yaml.safe_dump({"distributed_type": "FSDP", "num_processes": 1}))
    result = CliRunner().invoke(main, ["doctor", f"output_dir={tmp_path / 'run'}"])
    assert result.exit_code == 1
    assert "asks for FSDP, which a run cannot use" in result.output
    assert f"mv {path} {path}.old" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1", "cannot be read"),
        ("- 1", "no keys"),
        (yaml.safe_dump({"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 3}}), "ZeRO-3"),
        (
            yaml.safe_dump({"distributed_type": "DEEPSPEED", "deepspeed_config": {"deepspeed_config_file": "FILE"}}),
            "ZeRO-3",
        ),
        (yaml.safe_dump({"mixed_precision": "fp8"}), "mixed_precision must be one of"),
    ],
)
def test_accelerates_configuration_is_read_as_the_run_would(tmp_path, config, content, message):
    path = tmp_path / "default_config.yaml"
    assert check_launcher_config(path, config).state == OK
    (tmp_path / "zero3.json").write_text('{"zero_optimization": {"stage": 3}}')
    path.write_text(content.replace("FILE", str(tmp_path / "zero3.json")))
    found = check_launcher_config(path, config)
    assert found.state == BROKEN
    assert message in found.found


def test_shipped_launch_configurations_are_fine(tmp_path, config):
    from ipad_train.launch_configs import launch_configs

    for name, text in launch_configs().items():
        (tmp_path / name).write_text(text)
        assert check_launcher_config(tmp_path / name, config).state == OK, name


def test_environment_variables_that_a_run_refuses(config):
    assert check_environment(config, {}).state == OK
    found = check_environment(config, {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_MIXED_PRECISION": "no"})
    assert (found.state, found.mend) == (BROKEN, "unset ACCELERATE_USE_FSDP")
    found = check_environment(config, {"WORLD_SIZE": "2", "ACCELERATE_MIXED_PRECISION": "no"})
    assert (found.state, found.mend) == (BROKEN, "unset WORLD_SIZE")
    clash = dataclasses.replace(config, loop=dataclasses.replace(config.loop, mixed_precision="bf16"))
    found = check_environment(clash, {"ACCELERATE_MIXED_PRECISION": "fp16"})
    assert (found.state, found.mend) == (BROKEN, "unset ACCELERATE_MIXED_PRECISION")
    assert check_environment(config, {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "zero"}).state == BROKEN


def test_a_disk_too_small_for_the_checkpoints(tiny_disk, config):
    small = dataclasses.replace(config, output_dir=str(tiny_disk / "runs" / "a"))
    found = check_disk(small)
    assert found.state == BROKEN
    assert "1.0 MiB free" in found.found
    result = CliRunner().invoke(main, ["doctor", f"output_dir={tiny_disk / 'run'}"])
    assert result.exit_code == 1
    assert "output_dir=ON/ANOTHER/DISK" in result.output


def test_a_full_disk_and_a_file_in_the_way(tiny_disk, tmp_path, config):
    (tiny_disk / "full").write_bytes(bytes(2**20))
    found = check_disk(dataclasses.replace(config, output_dir=str(tiny_disk / "run")))
    assert found.state == BROKEN
    (tmp_path / "file").touch()
    found = check_disk(dataclasses.replace(config, output_dir=str(tmp_path / "file" / "run")))
    assert found.state == BROKEN
    assert "is a file" in found.found


def test_a_checkpoint_is_sixteen_bytes_a_weight_and_its_queues():
    import torch

    from ipad_core import create_model

    config = load_config("tiny")
    with torch.device("meta"):
        model = create_model(config.model.name, num_attributes=8, **config.model.options)
    assert checkpoint_bytes(config) == 16 * sum(parameter.numel() for parameter in model.parameters())
    paper = load_config("fashionai", ["data.dir=/x"])
    gib = checkpoint_bytes(paper) / 2**30
    assert 1.9 < gib < 2.2  # docs/training-at-scale.md: 2 GiB


def test_shared_memory_must_hold_the_batches_of_the_workers(tiny_disk, config):
    assert check_shared_memory(config).state == OK
    found = check_shared_memory(config, tiny_disk)
    assert found.state == BROKEN
    assert "--shm-size" in found.mend
    alone = dataclasses.replace(config, data=dataclasses.replace(config.data, num_workers=0))
    assert check_shared_memory(alone, tiny_disk).state == OK


def test_threads_that_do_not_fit_or_are_no_number(config):
    cores = available_cores()
    assert check_threads(config, 1, {}).state == OK
    assert check_threads(config, 1, {"OMP_NUM_THREADS": "two"}).state == CARE
    crowded = check_threads(config, 2, {"OMP_NUM_THREADS": str(cores)})
    assert crowded.state == CARE
    assert "wait for each other" in crowded.found
    assert check_threads(config, 1, {"OMP_NUM_THREADS": str(cores)}).state == OK


def test_a_host_without_an_address_and_devices(config):
    assert check_host_name("no-such-host.invalid").state == CARE
    assert check_host_name("localhost").state == OK
    assert check_devices(1).state in (OK, CARE)


def test_a_data_folder_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["doctor", f"output_dir={tmp_path / 'run'}", "data.dir=/nowhere/at/all"])
    assert result.exit_code == 1
    assert "/nowhere/at/all is not there" in result.output


def test_a_wrong_key_is_one_line():
    result = CliRunner().invoke(main, ["doctor", "stage1.stps=3"])
    assert result.exit_code == 1
    assert "nearest: stage1.steps" in result.output


def test_the_report_counts_what_stops_a_run():
    text = as_text([Finding("a", "fine"), Finding("longer", "gone", BROKEN, "do this")])
    assert text.splitlines() == [
        "ok    a       fine",
        "MEND  longer  gone",
        "              -> do this",
        "",
        "1 to be mended before training can start",
    ]
