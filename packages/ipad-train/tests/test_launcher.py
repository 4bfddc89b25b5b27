"""What a launcher asks for is honoured, or refused in a sentence."""

from __future__ import annotations

import psutil
import pytest

from ipad_train.launcher import (
    check_deepspeed,
    check_launcher,
    launched_accumulation,
    launched_compiler,
    resolve_accumulation,
    resolve_precision,
)


class Launcher(psutil.Process):
    """A parent process with a command line of its own."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)

    def cmdline(self) -> list[str]:
        return self.words


class Plugin:
    """What Accelerate holds of a DeepSpeed configuration."""

    def __init__(self, stage: int = 2, **settings: object) -> None:
        self.deepspeed_config = {"zero_optimization": {"stage": stage}, **settings}


@pytest.mark.parametrize(
    ("setting", "launched", "expected"),
    [(None, None, "no"), (None, "bf16", "bf16"), ("bf16", "no", "bf16"), ("fp16", "fp16", "fp16"), ("no", "no", "no")],
)
def test_precision_is_the_runs_or_the_launchers(setting, launched, expected):
    environment = {} if launched is None else {"ACCELERATE_MIXED_PRECISION": launched}
    assert resolve_precision(setting, environment) == expected


@pytest.mark.parametrize("setting", ["no", "fp16"])
def test_two_precisions_are_refused(setting):
    with pytest.raises(ValueError, match=f"mixed_precision=bf16, and the run has loop.mixed_precision={setting}"):
        resolve_precision(setting, {"ACCELERATE_MIXED_PRECISION": "bf16"})
    with pytest.raises(ValueError, match="must be one of no, bf16, fp16, got 'fp8'"):
        resolve_precision(None, {"ACCELERATE_MIXED_PRECISION": "fp8"})


def test_accumulation_is_read_where_the_launcher_leaves_it():
    launched = {"ACCELERATE_MIXED_PRECISION": "no"}
    assert launched_accumulation({}, Launcher("--gradient_accumulation_steps", "4")) == 1  # of something else
    assert launched_accumulation(launched, Launcher("accelerate", "launch", "--gradient_accumulation_steps", "4")) == 4
    assert launched_accumulation(launched, Launcher("accelerate", "launch", "--gradient-accumulation-steps=3")) == 3
    assert launched_accumulation(launched, Launcher("accelerate", "launch")) == 1
    assert launched_accumulation({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2"}, Launcher()) == 2
    with pytest.raises(ValueError, match="must be a positive number, got '0'"):
        launched_accumulation({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "0"}, Launcher())


def test_accumulation_is_the_stages_or_the_launchers(small_config):
    config = resolve_accumulation(small_config("stage1.accumulation=4"), 1)
    assert [stage.accumulation for _, stage in config.stages()] == [1, 4, 1]
    assert [stage.accumulation for _, stage in resolve_accumulation(small_config(), 8).stages()] == [8, 8, 8]
    with pytest.raises(ValueError, match=r"gradient_accumulation_steps=2, and the run has stage1\.accumulation=4"):
        resolve_accumulation(small_config("stage1.accumulation=4"), 2)
    with pytest.raises(ValueError, match=r"stage0\.batch_size must be a multiple of accumulation, 3, got 16"):
        resolve_accumulation(small_config(), 3)


def test_a_batch_that_cannot_be_divided_is_found_with_the_configuration(small_config):
    with pytest.raises(ValueError, match="batch_size must be a multiple of accumulation, 5"):
        small_config("stage1.accumulation=5")


@pytest.mark.parametrize("name", ["USE_FSDP", "USE_MEGATRON_LM", "USE_PARALLELISM_CONFIG"])
def test_engines_that_cannot_be_used_are_refused(name):
    with pytest.raises(ValueError, match=f"ACCELERATE_{name}.*ZeRO-1 or -2"):
        check_launcher({f"ACCELERATE_{name}": "true"})
    check_launcher({f"ACCELERATE_{name}": "false"})


def test_a_compiler_of_the_launcher_is_used():
    assert launched_compiler({"ACCELERATE_DYNAMO_BACKEND": "NO"}) is None
    assert launched_compiler({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}) == "inductor"


def test_deepspeed_settings_against_the_runs_are_refused(small_config):
    config = small_config()
    check_deepspeed(Plugin(gradient_clipping=5.0), config, "no")
    check_deepspeed(Plugin(gradient_clipping="auto", bf16={"enabled": True}), config, "bf16")
    with pytest.raises(ValueError, match="ZeRO-3 partitions the parameters"):
        check_deepspeed(Plugin(3), config, "no")
    with pytest.raises(ValueError, match=r"gradient_clipping=1\.0, and the run has stage0\.gradient_clip=5\.0"):
        check_deepspeed(Plugin(gradient_clipping=1.0), config, "no")
    with pytest.raises(ValueError, match="enables torch_autocast, and the run casts by itself"):
        check_deepspeed(Plugin(torch_autocast={"enabled": True, "dtype": "bfloat16"}), config, "bf16")
    with pytest.raises(ValueError, match=r"enables bf16, and the run has loop\.mixed_precision=no"):
        check_deepspeed(Plugin(bf16={"enabled": True}), config, "no")
    with pytest.raises(ValueError, match=r"enables fp16, and the run has loop\.mixed_precision=bf16"):
        check_deepspeed(Plugin(fp16={"enabled": True}), config, "bf16")
