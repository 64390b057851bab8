"""Several devices, of one process or of many: each has all of the state, and its own part of each batch
(`parallel.devices`).

    batch     the order, and the draws of crop and flip, are those of the whole batch; a replica gathers its own part
              (of streamed images it is given that)
    backward  of one's own images; batch norm's sums, where they are synchronised, are averaged on their way; where the
              schedule has other methods for other replicas, the weight gradient of that layer is a conditional
    average   of gradients, loss and statistics over the replicas: one all-reduce, outside of any conditional; of a
              weight gradient that some replicas do not have, over those that have it (`parallel.mean`)
    update    by every replica of its own copy, of the same numbers by the same program: the copies stay equal

So the whole step is one `shard_map`, and what one device computes at the same batch is what it computes, but for
rounding. A weight gradient that does not depend on the images is not sent: every replica knows it. One device has none
of this in its programs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from approxtrain.config import Config
from approxtrain.errors import ConfigError, VerificationError
from approxtrain.models.approximate import modules_by_path
from approxtrain.schedule import Column
from approxtrain.training.batch import Images
from approxtrain.training.contributions import known_everywhere, own_statistics, weighed
from approxtrain.training.moved import by_path, like
from approxtrain.training.step import Backward, StepMetrics, Task, TrainState
from approxtrain_kernels.replicas import alone, own_key, replicated

AXIS = "replica"
T = TypeVar("T")


class Replicas:
    """The devices that share each batch; of one, every method returns what it is given."""

    def __init__(
        self, devices: Sequence[Any], *, synchronised: bool = True, over_all: bool = False, sent_as: str | None = None
    ) -> None:
        self.count, self.synchronised, self._devices = max(len(devices), 1), synchronised, tuple(devices)
        self.over_all = over_all
        """Whether a weight gradient that some replicas do not have is divided by the number of all of them."""
        self.sent_as = sent_as
        """The type of gradients on their way; None: their own."""
        self._here = [device for device in devices if device.process_index == jax.process_index()]

    @cached_property
    def _everywhere(self) -> NamedSharding:
        return NamedSharding(Mesh(np.array(self._devices), (AXIS,)), PartitionSpec())

    @property
    def part(self) -> tuple[int, int]:
        """Of the equal parts of each batch, one after the other, that of this process' devices; and how many there
        are."""
        processes = sorted({device.process_index for device in self._devices} or {jax.process_index()})
        return processes.index(jax.process_index()), len(processes)

    @classmethod
    def of(cls, config: Config) -> Replicas:
        """The first devices of this machine; of several processes all that they have. ConfigError where there are
        other ones than are asked for."""
        # by process, so that the devices of one have parts of a batch that are next to each other
        count, there = config.parallel.devices, sorted(jax.devices(), key=lambda device: device.process_index)
        if count > len(there):
            kind = there[0].platform
            advice = (
                f"A CPU is {count} devices, which share its cores, if the program is started with "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={count}."
                if kind == "cpu"
                else f"Take parallel.devices={len(there)} or less."
            )
            found = "is 1 device" if len(there) == 1 else f"are {len(there)} devices"
            raise ConfigError(f"`parallel.devices` (={count}): there {found} here, of the kind {kind}. {advice}")
        parallel = config.parallel
        synchronised, over_all = parallel.batch_norm == "synchronised", parallel.mean == "paper"
        narrow = None if parallel.gradients == "float32" else parallel.gradients
        return cls(there[:count], synchronised=synchronised, over_all=over_all, sent_as=narrow)

    @classmethod
    def refuse_several(cls, config: Config, what: str) -> None:
        """ConfigError where a configuration asks for several devices, for `what` is done on one."""
        if (count := config.parallel.devices) > 1:
            raise ConfigError(f"`parallel.devices` (={count}): {what} on one device as yet. Take parallel.devices=1.")

    def place(self, tree: T) -> T:
        """The arrays of `tree`, which every process has alike, on every device."""
        return tree if self.count == 1 else jax.tree.map(self._place, tree)

    def _place(self, leaf: Any) -> jax.Array:
        if jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(self._place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        if isinstance(leaf, jax.Array) and leaf.sharding == self._everywhere:
            return leaf
        copies = [jax.device_put(leaf, device) for device in self._here]
        # without a look at what the other processes have, for which jax would send all of it
        return jax.make_array_from_single_device_arrays(copies[0].shape, self._everywhere, copies)

    def share(self, tree: T) -> T:
        """Arrays of NumPy over this process' part of a batch as arrays over all of it, of which each device has its own
        part."""
        return jax.tree.map(jax.device_put if self.count == 1 else self._share, tree)

    def _share(self, leaf: np.ndarray) -> jax.Array:
        parts = np.split(leaf, len(self._here))
        placed = [jax.device_put(part, device) for part, device in zip(parts, self._here, strict=True)]
        by_replica = NamedSharding(self._everywhere.mesh, PartitionSpec(AXIS))
        shape = (self.count * len(parts[0]), *leaf.shape[1:])
        return jax.make_array_from_single_device_arrays(shape, by_replica, placed)

    def task(self, task: Task) -> Task:
        """`task`, whose batch norms look at the images of all devices where they are to be synchronised."""
        if self.count == 1 or not self.synchronised:
            return task

        def follow(*arguments: Any) -> nnx.Module:
            network = task.follow(*arguments)
            for module in modules_by_path(network).values():
                if isinstance(module, nnx.BatchNorm):
                    module.axis_name = AXIS
            return network

        return task._replace(follow=follow)

    def program(self, step: Callable[..., T], *, streamed: bool = False) -> Callable[..., T]:
        """A step of the whole batch, as that of every replica on its own part; all arguments are on every device.

        `streamed`: but for the images (of state, images, order, keys), of which each device has its own part.
        """
        if self.count == 1:
            return step

        def of_one(*arguments: Any) -> T:
            with replicated(AXIS, self.count):
                return step(*arguments)

        everywhere: Any = PartitionSpec()
        own: Any = PartitionSpec(AXIS)
        images = Images(own, own, mean=everywhere, std=everywhere)
        given = (everywhere, images, everywhere, everywhere) if streamed else everywhere
        # unchecked: jax follows what varies over replicas through no call of our own code, nor through Pallas
        return jax.shard_map(of_one, mesh=self._everywhere.mesh, in_specs=given, out_specs=everywhere, check_vma=False)

    def average(
        self,
        task: Task,
        column: Column,
        result: Backward,
        *,
        frozen_prefix: bool = False,
        blocks: Collection[str] = (),
    ) -> Backward:
        """Of what each replica has of its own images, what the whole batch gives; `blocks` as of `backward`."""
        if self.count == 1:
            return result
        gradient, stats, metrics = by_path(result.gradient), by_path(result.stats), result.metrics
        if not self.over_all:
            gradient = weighed(task.model.layers, column, gradient)
        own = own_statistics(task) if self.synchronised else set(stats)
        sent = set(gradient) - known_everywhere(task, column, gradient, frozen_prefix=frozen_prefix, blocks=blocks)
        correct = lax.psum(metrics.correct, AXIS)
        gradient_sent, stats_sent, loss = lax.pmean(
            (
                {name: leaf.astype(self.sent_as or leaf.dtype) for name, leaf in gradient.items() if name in sent},
                {name: leaf for name, leaf in stats.items() if name in own and jnp.issubdtype(leaf.dtype, jnp.inexact)},
                metrics.loss,
            ),
            AXIS,
        )
        gradient_sent = {name: leaf.astype(gradient[name].dtype) for name, leaf in gradient_sent.items()}
        return Backward(
            like(result.gradient, gradient | gradient_sent),
            like(result.stats, stats | stats_sent),
            StepMetrics(loss, correct),
        )

    def own(self, backward: Callable[..., Backward], state: TrainState, inputs: tuple[Any, Any, jax.Array]) -> Backward:
        """What a replica has by itself, with draws of its own, of a step whose gradients are not sent; the number of
        right images as if the others had as many."""
        x, labels, key = inputs
        key = jax.vmap(own_key)(key)  # of each seed
        with alone():
            result = backward(state.params, state.stats, x, labels, key)
        return result._replace(metrics=result.metrics._replace(correct=result.metrics.correct * self.count))

    def mean(self, step: tuple[TrainState, StepMetrics]) -> tuple[TrainState, StepMetrics]:
        """After a step, the mean over the replicas of all that is not counted: of their copies of weights, statistics,
        moments and sums, and of the loss, so that all of them see where one's is not finite."""
        leaves, tree = jax.tree.flatten(step)
        own = [number for number, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        for number, leaf in zip(own, lax.pmean([leaves[number] for number in own], AXIS), strict=True):
            leaves[number] = leaf
        return tree.unflatten(leaves)

    def not_synchronised(self, task: Task) -> Iterator[str]:
        """Statistics that each device takes of its own images though they were to be of all, in words."""
        if self.count > 1 and self.synchronised and (other := sorted(own_statistics(task))):
            yield (
                f"parallel.batch_norm=synchronised makes those of `nnx.BatchNorm` the statistics of the whole batch; "
                f"`{other[0]}`{f' and {len(other) - 1} more' if len(other) > 1 else ''} are of each device's own "
                "images, and their mean over the devices is kept."
            )

    def refuse_unless_equal(self, state: TrainState) -> None:
        """VerificationError where the copies that the devices have of `state` differ in a bit."""
        if self.count == 1:
            return
        leaves = by_path(state)
        sums = np.asarray(self._hashes(list(leaves.values())))
        if different := [name for name, own in zip(leaves, sums.T, strict=True) if (own != own[0]).any()]:
            raise VerificationError(
                f"After step {int(state.step)} the devices have different numbers in `{different[0]}`"
                f"{f' and {len(different) - 1} more arrays' if len(different) > 1 else ''}, of which they must have "
                "the same. Either a device makes mistakes, or the network computes something that depends on "
                "a device's own images besides gradients, statistics and loss: train it with parallel.devices=1."
            )

    @cached_property
    def _hashes(self) -> Callable[[list[jax.Array]], jax.Array]:
        """A hash of each array, of each device: `[devices, arrays]`."""

        def of_one(leaves: list[jax.Array]) -> jax.Array:
            return lax.all_gather(jnp.stack([_hash(leaf) for leaf in leaves]), AXIS)

        everywhere = PartitionSpec()
        return jax.jit(
            jax.shard_map(
                of_one, mesh=self._everywhere.mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False
            )
        )


ONE = Replicas(())
"""One device, whichever it is."""


def on_first(tree: T) -> T:
    """The arrays of `tree` as the first of their devices has them, for what one device computes alone."""

    def of(leaf: Any) -> Any:
        several = isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1
        return leaf.addressable_shards[0].data if several else leaf

    return jax.tree.map(of, tree)


def _hash(array: jax.Array) -> jax.Array:
    """A number in 32 bits of all bits of an array."""
    array = array.astype(jnp.uint8) if array.dtype == jnp.bool_ else array
    bits = lax.bitcast_convert_type(array, {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[array.dtype.itemsize])
    mixed = bits.astype(jnp.uint32).reshape(-1)
    mixed = mixed ^ (lax.iota(jnp.uint32, mixed.size) * np.uint32(0x9E3779B9))  # so that a number's place counts
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):  # of MurmurHash3, so that two bits do not cancel
        mixed = (mixed ^ (mixed >> shift)) * np.uint32(factor)
    return (mixed ^ (mixed >> 16)).sum()
