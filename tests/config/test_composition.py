"""Jobs composed once are what Hydra would compose."""

import pickle
from collections.abc import Iterator
from unittest import mock

import pytest
from hydra import initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from tests.support.composing import compose_sweep

from quantexp.config.composition import SweepLoader, compose_once
from quantexp.config.hydra_schemas import register_schemas
from quantexp.util.error_reports import explain_error

SWEEPS: tuple[tuple[list[str], list[list[str]]], ...] = (
    ([], [["seed=0"], ["seed=1"], ["seed=2", "task.limit=3"]]),
    (["task.limit=5"], [["quant=Q4_K_M", "seed=0"], ["quant=Q8_0", "seed=0"], ["quant=Q4_K_M", "seed=1"]]),
    (
        [],
        [
            ["model=local", "model.name=x", "model.path='/m/${quant.name}.gguf'", "quant=Q4_K_M"],
            ["model=local", "model.name=y", "model.path='/m/${quant.name}.gguf'", "quant=Q4_K_M"],
        ],
    ),
    ([], [["data=hub", "task=triviaqa", "task.limit=9"], ["data=hub", "task=gsm8k", "task.limit=9"]]),
    ([], [["+data.columns.question=prompt", "seed=1"], ["data.columns={question: prompt}", "seed=2"]]),
    ([], [["experiment=quant-cliff", "seed=1"], ["experiment=quant-cliff", "seed=2", "stats.margin=0.05"]]),
    ([], [["hydra.job.name=other", "seed=1"], ["task.stop=[a,'b c']", "engine.extra_body={a: 1}"]]),
    ([], [["task.sampling=greedy", "seed=1"], ["task.sampling=model", "seed=2"], ["task/sampling=model", "seed=2"]]),
    (["hydra.job.config.override_dirname.exclude_keys=[seed]"], [["seed=1", "task.limit=2"], ["seed=2", "force=true"]]),
)

REFUSED = ("task.limt=5", "seed=x", "quant=Q5_K_X", "+seed=4", "stats.unit=nothing", "~task.limit.x", "a b")


@pytest.fixture
def loader() -> Iterator[ConfigLoaderImpl]:
    register_schemas()
    with initialize_config_module("quantexp.conf", version_base="1.3"):
        found = GlobalHydra.instance().config_loader()
        assert isinstance(found, ConfigLoaderImpl)
        yield found


@pytest.mark.parametrize(("shared", "jobs"), SWEEPS)
def test_a_job_is_what_hydra_composes(loader: ConfigLoaderImpl, shared: list[str], jobs: list[list[str]]) -> None:
    master, once = compose_sweep(*shared), SweepLoader(loader)
    for job in jobs:
        own, composed = loader.load_sweep_config(master, shared + job), once.load_sweep_config(master, shared + job)
        assert OmegaConf.to_yaml(composed) == OmegaConf.to_yaml(own)
        for config in (own, composed):
            config.hydra.sweep.dir = config.hydra.run.dir = "."  # the time of each composition
        assert OmegaConf.to_container(composed.hydra) == OmegaConf.to_container(own.hydra)
        assert composed._get_flag("struct") == own._get_flag("struct")


@pytest.mark.parametrize("override", REFUSED)
def test_it_refuses_in_the_same_words(loader: ConfigLoaderImpl, override: str) -> None:
    master, sentences = compose_sweep(), []
    for each in (loader, SweepLoader(loader)):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever Hydra raises; its sentence is compared
            each.load_sweep_config(master, [override])
        sentences.append(explain_error(caught.value))
    assert sentences[0] is not None, repr(caught.value)
    assert sentences[0] == sentences[1]


def test_a_change_to_what_was_composed_stays_there(loader: ConfigLoaderImpl) -> None:
    before = OmegaConf.to_yaml(compose_sweep())
    changed = compose_sweep()
    changed.model.name = changed.task.name = "changed"
    changed.hydra.overrides.task.append("seed=1")
    assert OmegaConf.to_yaml(compose_sweep()) == before


def test_each_job_is_composed_once(loader: ConfigLoaderImpl) -> None:
    jobs = [[f"quant={quant}", f"seed={seed}"] for quant in ("Q8_0", "Q4_K_M") for seed in range(5)]
    with mock.patch.object(ConfigLoaderImpl, "load_configuration", autospec=True, side_effect=_load) as loading:
        master = compose_sweep()
        loading.reset_mock()
        compose_once()
        for _ in range(3):  # the check before the sweep, Hydra's own, and the launcher
            for job in jobs:
                composed = GlobalHydra.instance().config_loader().load_sweep_config(master, job)
                assert (f"quant={composed.quant.name}", f"seed={composed.seed}") == tuple(job)
    assert loading.call_count == 2  # one for each quant


def test_what_a_launcher_adds_after_the_check_counts(loader: ConfigLoaderImpl) -> None:
    master, once = compose_sweep(), SweepLoader(loader)
    once.load_sweep_config(master, ["seed=1"])
    master.hydra.overrides.hydra.append("hydra.sweep.dir=/elsewhere")
    assert once.load_sweep_config(master, ["seed=1"]).hydra.sweep.dir == "/elsewhere"


def test_launchers_send_it_without_what_is_composed(loader: ConfigLoaderImpl) -> None:
    once = SweepLoader(loader)
    before = len(pickle.dumps(once))
    once.load_sweep_config(compose_sweep(), ["seed=1"])
    sent = pickle.dumps(once)
    assert len(sent) == before
    assert pickle.loads(sent).load_sweep_config(compose_sweep(), ["seed=1"]).seed == 1


_load = ConfigLoaderImpl.load_configuration
