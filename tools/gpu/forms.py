"""How long each form of `approx` takes on this device, and each kernel of it: what the model in `choose.py` is held to.

Kernel times by CUPTI with inputs in the cache, without the gaps between kernels. Whether a form computes the right
thing is for the tests to say (`pytest -m gpu`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from statistics import median
from typing import Any

import jax

from approxtrain.bench.kernel_cases import PRECISIONS, Case
from approxtrain.bench.kernel_contenders import compiled, draw, estimator
from approxtrain_kernels import ConvShape
from approxtrain_kernels.methods import make
from approxtrain_kernels.pallas.choose import choose, full, plans
from approxtrain_kernels.pallas.model import device_of
from approxtrain_kernels.pallas.wgrad import estimate

PROFILED = 10


def run(shapes: Sequence[ConvShape], precisions: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for each precision and shape: what the model says, what was measured."""
    for case in (Case(shape, PRECISIONS[name], "wgrad", make("approx")) for name in precisions for shape in shapes):
        shape, dtype = case.shape, case.precision.dtype
        model = {"tf32": case.precision.name != "float32", "device": device_of(jax.devices()[0].device_kind)}
        chosen = choose(shape, 1, dtype, **model).form
        contenders: dict[str, Any] = {"full": (full(shape, dtype, **model), estimator(make("full"), shape))}
        for plan in plans(shape, 1, dtype, **model):
            contenders[plan.form] = plan, partial(estimate, shape=shape, k=1, plan=plan)
        forms = {name: {"model": asdict(plan)} | _measured(case, by) for name, (plan, by) in contenders.items()}
        right = not any("failed" in form for form in forms.values())
        what = {"shape": asdict(shape), "precision": case.precision.name, "chosen": chosen}
        yield what | {"forms": forms, "right": right}


def microseconds(form: dict[str, Any]) -> float | str:
    """All kernels of a form together, or why there is no time."""
    return form.get("failed") or round(sum(us for _, us in form["kernels_us"]), 1)


def _measured(case: Case, function: Any) -> dict[str, Any]:
    """(kernel, median µs) in the order of their launch; why not, where a form does not compile: the others go on."""
    try:
        from jax.experimental.mosaic.gpu.profiler import Cupti

        contender = compiled("form", case, ("x", "dy"), ("dw",), function)
        profiled = Cupti(finalize=False).measure(contender.run, aggregate=False, iterations=PROFILED)
        calls: Any = profiled(*contender.load(draw(case, 0)))[1]
        if not calls:
            return {"failed": "CUPTI saw no kernel"}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    names = [name[:80] for name, _ in calls[0]]
    return {"kernels_us": [(name, 1e3 * median(call[at][1] for call in calls)) for at, name in enumerate(names)]}
