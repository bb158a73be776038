"""What type checkers are told of a component's ports is what the component has."""

import inspect

import pytest
from amaranth import Signal
from amaranth.hdl import Fragment
from amaranth.lib import data, stream, wiring

from systolith_hw.config import PRESETS
from systolith_hw.control.unit import UnitFace, UnitSignature
from systolith_hw.core import Core
from systolith_hw.isa import Opcode
from systolith_hw.memory.axi import Axi4, Axi4Port, AxiLite, AxiLitePort

INTERFACES = {stream.Interface: stream.Signature, Axi4Port: Axi4, AxiLitePort: AxiLite, UnitFace: UnitSignature}


def annotated(cls):
    """Public annotations of a class, without those of its bases."""
    return {name: hint for name, hint in inspect.get_annotations(cls).items() if not name.startswith("_")}


def fits(member, hint):
    """Whether a type checker may take the member for ``hint``."""
    if member.is_port:
        return hint is (data.View if isinstance(member.shape, data.Layout) else Signal)
    seen = member.signature.flip() if isinstance(member.signature, wiring.FlippedSignature) else member.signature
    return type(seen) is INTERFACES.get(hint)


def test_ports_of_every_component_of_a_core(monkeypatch):
    components: dict[type, wiring.Component] = {}
    constructor = wiring.Component.__init__

    def noted(self, *arguments, **keywords):
        constructor(self, *arguments, **keywords)
        if type(self).__module__.startswith("systolith_hw."):
            components[type(self)] = self

    monkeypatch.setattr(wiring.Component, "__init__", noted)
    Fragment.get(Core(PRESETS["tiny"]), None).prepare()
    assert len(components) > 20
    for cls, component in components.items():
        hints, members = annotated(cls), component.signature.members
        assert list(hints) == list(members), cls
        assert [name for name in hints if not fits(members[name], hints[name])] == [], cls


@pytest.mark.parametrize(("interface", "signature"), [
    (Axi4Port, Axi4(data_bytes=4)), (AxiLitePort, AxiLite()),
    *((UnitFace, UnitSignature(core=PRESETS["tiny"], opcode=opcode)) for opcode in Opcode)])
def test_interfaces(interface, signature):
    hints = annotated(interface)
    assert list(hints) == list(signature.members)
    assert all(fits(signature.members[name], hint) for name, hint in hints.items())
