"""A model is one file and one YAML: keys are validated, the net is built, mistakes are one line."""

import importlib.util
import sys
from pathlib import Path

import pytest

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.config.values import dump
from convtl.errors import UserError
from convtl.models.registry import build_network

MODEL = """
from typing import Literal
from pydantic.dataclasses import dataclass
from convtl.config.models import ModelConfig
from convtl.config.values import STRICT, Count
from convtl.models.layers import DenseUnit
from convtl.models.network import Network

@dataclass(frozen=True, config=STRICT)
class TinyConfig(ModelConfig):
    kind: Literal["tiny"] = "tiny"
    width: Count = 3

    def build(self, input_shape, classes):
        return Network((("low", DenseUnit(self.width)), ("head", DenseUnit(classes))), input_shape)
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.py").write_text(MODEL)
    (tmp_path / "conf" / "models").mkdir(parents=True)
    (tmp_path / "conf" / "models" / "tiny5.yaml").write_text("kind: tiny\nwidth: 5\n")
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("tiny", tmp_path / "tiny.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tiny", module)
    spec.loader.exec_module(module)


def test_model_is_one_file_and_one_node(tiny: None) -> None:
    config = parse(compose(["model=tiny5"])).models["tiny5"]
    network = build_network(config, (2, 2, 1), 4)
    assert network.output_shapes == ((5,), (4,))
    assert dump(config) == {"kind": "tiny", "width": 5}
    assert (config.usual_images, config.usual_classes) == ((224, 224, 3), 1000)
    assert build_network(config, (2, 2, 1), 4) is network


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("models.tiny5.width=0", "models.tiny5.width: got 0; accepted: "),
        ("models.tiny5.widht=5", "models.tiny5.widht: unknown key; accepted: kind, width."),
        ("models.tiny5.kind=tinny", "models.tiny5.kind: got 'tinny'; accepted: "),
    ],
)
def test_mistakes_in_a_node_are_one_line(tiny: None, word: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse(compose([word if "widht" not in word else f"+{word}"]))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_whole_config_holds_the_keys_of_its_models() -> None:
    config = parse(compose(["models.lenet5.pooling=max"]))
    assert dump(config)["models"]["lenet5"]["pooling"] == "max"
