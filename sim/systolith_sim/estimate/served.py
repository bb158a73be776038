"""Estimate of a closed loop: the batch's requests are in flight all the time, each replaced as it ends."""

from dataclasses import replace

from systolith_sim.devices.device import Device
from systolith_sim.estimate.assemble import Parts, assembled
from systolith_sim.estimate.closed_loop import closed_loop
from systolith_sim.estimate.engine import Engine
from systolith_sim.estimate.generate import Estimate, memory_of, sources, with_advice, with_engine
from systolith_sim.estimate.models import Model
from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.request import Request
from systolith_sim.estimate.tally import lacking_energy
from systolith_sim.parallel.layout import Layout


def estimate_served(
    name: str, model: Model, device: Device, request: Request, layout: Layout, engine: Engine
) -> Estimate:
    """``request.batch`` requests in flight over all replicas; times are those of one request, without a queue.

    Raises
    ------
    ValueError
        If the model generates nothing, the layout cannot split it, or the device cannot compute a format.
    """
    if not model.generates:
        raise ValueError(f"model must generate tokens to be served in a closed loop, not {name}")
    layout.check(model)
    model.check(request.prompt, request.generate)
    share = replace(request, batch=-(-request.batch // layout.dp))
    replica = Replica(device, model, layout, engine, request.formats)
    loop = closed_loop(replica, concurrency=share.batch, prompt=share.prompt, generate=share.generate)
    work = replica.work(batch=share.batch, prompt=share.prompt, done=1 + share.generate // 2)
    enter = replica.work(batch=1, prompt=share.prompt)
    memory, lacking = memory_of(replica, share), lacking_energy(device, work)
    # In the time of one request as much work is done as the replica does in it.
    whole = loop.work * (loop.latency_s / loop.work.seconds)
    low, high = (end / loop.tpot_s for end in with_engine(loop.tpot_s, loop.interval_s, replica))
    figures = {"ttft_s": loop.ttft_s, **({"tpot_s": loop.tpot_s} if request.generate > 1 else {})}
    parts = Parts(
        name=name, device=device, layout=layout, formats=request.formats, engine=engine.id,
        tokens=request.batch * request.generate, whole=whole, memory=memory, lacking=lacking,
        interval_s=(low * loop.latency_s, high * loop.latency_s),
        provenance={**sources(replica, lacking), "served": WORDS}, ttft_s=loop.ttft_s,
        tpot_s=figures.get("tpot_s"),
        intervals={field: (low * value, high * value) for field, value in figures.items()},
    )  # fmt: skip
    passes, tallies = {"prefill": enter, "decode": work}, {"request": loop.work}
    return with_advice(Estimate(assembled(parts), device, passes, tallies), replica, share, memory)


WORDS = (
    "closed loop: the batch is in flight all the time, each request replaced as it ends; a token waits for one step "
    "and its share of the prompts that enter; no queue"
)
