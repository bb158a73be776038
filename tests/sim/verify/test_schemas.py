"""The packaged JSON Schemas are those of the results."""

import json
from importlib import resources

import pytest

from systolith_sim.verify.results import CampaignResult, GemmResult, schema_text


@pytest.mark.parametrize(("name", "model"), [("rtl-gemm-1", GemmResult), ("rtl-campaign-1", CampaignResult)])
def test_schema_is_current(name, model):
    packaged = resources.files("systolith_sim").joinpath("schemas", f"{name}.json").read_text("utf-8")
    assert packaged == schema_text(model)
    assert json.loads(packaged)["properties"]["schema"]["const"] == f"systolith.{name.rpartition('-')[0]}/1"
