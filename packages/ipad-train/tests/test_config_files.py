from __future__ import annotations

import pytest

from ipad_train.config import RunConfig, StageConfig
from ipad_train.config_files import ConfigError, list_presets, load_config, save_config, with_absolute_paths


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_loads_and_survives_a_round_trip(name, tmp_path):
    config = load_config(name)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert config.stages()


def test_on_a_gpu_the_trunk_of_photos_starts_from_weights_and_learns():
    config, frozen = load_config("photos_gpu"), load_config("photos")
    assert config.model.options["trunk"] == {**frozen.model.options["trunk"], "freeze": 0, "freeze_norm": True}
    assert frozen.model.options["trunk"]["pretrained"]
    assert 0 < config.stage2.trunk_learning_rate < config.stage2.learning_rate == frozen.stage2.learning_rate


def test_no_word_means_the_tiny_preset_on_rendered_data():
    config = load_config()
    assert (config.data.name, config.model.name) == ("rendered", "ipad_tiny")


def test_overrides_are_typed_by_the_field():
    config = load_config(
        None, ["stage1.learning_rate=1e-3", "stage1.steps=7", "data.dir=photos", "clusters.enabled=false"]
    )
    assert (config.stage1.learning_rate, config.stage1.steps, config.data.dir) == (1e-3, 7, "photos")
    assert config.clusters.enabled is False


def test_the_word_no_is_a_precision_though_yaml_reads_it_as_false():
    assert load_config(None, ["loop.mixed_precision=no"]).loop.mixed_precision == "no"


def test_every_field_can_be_set_from_the_command_line():
    config = load_config()

    def leaves(tree, prefix=""):
        for key, value in tree.items():
            if isinstance(value, dict) and value and key not in ("options", "augmentation"):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    import json

    overrides = [f"{key}={json.dumps(value)}" for key, value in leaves(config.to_dict())]
    assert len(overrides) > 60
    assert load_config(None, overrides) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stage1.step=3", "'stage1.step'; nearest: stage1.steps"),
        ("stage9.steps=3", "unknown configuration key 'stage9'; nearest: stage"),
        ("stage1.steps=many", "stage1.steps must be of type int, got 'many'"),
        ("stage1.steps=true", "stage1.steps must be of type int"),
        ("stage1.sampler=fast", "stage1.sampler must be one of dense, triplet, balanced, got 'fast'"),
        ("loop.mixed_precision=fp8", "loop.mixed_precision must be"),
        ("clusters.momentum=1.0", r"clusters.momentum must be within \[0, 1\)"),
        ("seed", "an option must read KEY=VALUE"),
        ("seed.x=1", "seed must be of type int"),
        ("data=3", "data must hold keys of its own"),
    ],
)
def test_bad_overrides_name_the_key_and_what_is_allowed(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


def test_unknown_preset_lists_the_nearest():
    with pytest.raises(ConfigError, match="fashionai"):
        load_config("fashonai")


def test_a_file_may_start_from_a_preset_and_keeps_what_it_does_not_name(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: tiny\nstage1: {steps: 9}\n", encoding="utf-8")
    config = load_config(tmp_path / "mine.yaml")
    assert config.stage1.steps == 9
    assert config.stage1.learning_rate == load_config("tiny").stage1.learning_rate


@pytest.mark.parametrize("text", ["- a list\n", "a: [unclosed\n"])
def test_a_file_that_is_no_mapping_is_an_error_with_its_name(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(tmp_path / "bad.yaml")


def test_stages_without_steps_are_left_out():
    config = RunConfig(stage1=StageConfig(steps=3))
    assert [name for name, _ in config.stages()] == ["stage1"]


def test_a_length_in_epochs_replaces_one_in_steps_and_the_other_way_round(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: tiny\nstage1: {epochs: 8, min_steps: 30, max_steps: 900}\n")
    config = load_config(tmp_path / "mine.yaml")
    assert (config.stage1.steps, config.stage1.epochs) == (0, 8.0)
    config = load_config(tmp_path / "mine.yaml", ["stage1.steps=5", "stage2.epochs=2"])
    assert (config.stage1.steps, config.stage1.epochs, config.stage1.max_steps) == (5, None, None)
    assert (config.stage2.steps, config.stage2.epochs) == (0, 2.0)
    config = load_config(tmp_path / "mine.yaml", ["stage1.epochs=0"])
    assert [name for name, _ in config.stages()] == ["stage0", "stage2"]


def test_files_that_are_each_others_base_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml")
    (tmp_path / "b.yaml").write_text("base: a.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml: its base leads back to itself"):
        load_config(tmp_path / "a.yaml")
    (tmp_path / "tiny").write_text("base: tiny")  # a preset's name, which its own folder does not mean
    with pytest.raises(ConfigError, match="leads back to itself"):
        load_config(tmp_path / "tiny")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 3.0, "steps": 4}, "steps must be 0 where epochs is given"),
        ({"epochs": -1.0}, "epochs must be zero or more"),
        ({"steps": 5, "max_steps": 9}, "max_steps bound a length in epochs"),
        ({"epochs": 3.0, "min_steps": 0}, "min_steps must be positive"),
        ({"epochs": 3.0, "min_steps": 10, "max_steps": 9}, "min_steps must be at most max_steps, 9, got 10"),
    ],
)
def test_lengths_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StageConfig(**options)


def test_patience_without_evaluations_to_count_is_refused():
    with pytest.raises(ConfigError, match=r"loop\.patience=3 counts evaluations: set loop\.eval_every"):
        load_config(None, ["loop.patience=3"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("losses.margin=5", r"losses\.margin must be within \[0, 2\], cosine units, got 5"),
        ("losses.temperature=0", r"losses\.temperature must be positive"),
        ("clusters.queue_length=-3", r"clusters\.queue_length must be positive or null, got -3"),
        ("stage1.decay_every=0", r"stage1\.decay_every must be positive"),
        ("stage1.gradient_clip=-1", r"stage1\.gradient_clip must be zero or more"),
        ("loop.threads=0", r"loop\.threads must be positive or null"),
        ("stage1.learning_rate=inf", r"stage1\.learning_rate must be a finite number, got inf"),
        ("losses.contrast_weight=.nan", r"losses\.contrast_weight must be a finite number, got nan"),
        ("seed=-1", "seed must be zero or more, got -1"),
        ("output_dir=''", "output_dir must be the name of a folder, got ''"),
        ("stage1.steps=[1", r"the value of 'stage1\.steps' is not valid YAML: '\[1'"),
    ],
)
def test_mistakes_are_found_when_the_configuration_is_read(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


def test_paths_become_absolute_and_addresses_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(load_config(None, ["data.dir=a/../photos/", "model.trunk_weights=w"]))
    assert (config.data.dir, config.model.trunk_weights) == (str(tmp_path / "photos"), str(tmp_path / "w"))
    assert with_absolute_paths(config) == config
    remote = load_config(None, ["data.dir=hf://datasets/me/photos"])
    assert with_absolute_paths(remote) == remote
