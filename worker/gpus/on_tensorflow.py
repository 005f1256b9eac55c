"""TensorFlow on what was allocated, and nowhere else."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.errors import MachineError, UsageError
from worker.gpus import library, models, surroundings
from worker.gpus.forms import AllocateTold
from worker.gpus.frameworks import Prepared, TensorFlowSettings

if TYPE_CHECKING:
    import numpy as np

BF16_SINCE = (8, 0)
"""compute capability"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TensorFlowSetup:
    """Of this process."""

    settings: TensorFlowSettings
    told: AllocateTold
    strategy: Any
    """a tf.distribute.Strategy: models are made in its scope"""
    devices: Sequence[str]


class TensorFlowGPUIntegration:
    def __init__(self) -> None:
        self._setup: TensorFlowSetup | None = None

    @property
    def setup(self) -> TensorFlowSetup:
        if self._setup is None:
            raise UsageError("TensorFlow was not set up in this process: call setup_tensorflow_gpu first")
        return self._setup

    def setup_tensorflow_gpu(
        self,
        gpu_config: AllocateTold | Prepared | library.Asked | None = None,
        *,
        node_name: str = "",
        rehearse: bool = False,
    ) -> TensorFlowSetup:
        """`gpu_config`: what allocate_gpu_resources answered, or what it should be asked for; None: the CPU.

        `rehearse`: all of it but on the CPU, for the cards of a described cluster."""
        ready = gpu_config if isinstance(gpu_config, Prepared) else library.prepare_gpu_resources(gpu_config)
        try:
            self._setup = _set_up(ready.rehearsed() if rehearse else ready, node_name, rehearse)
        except BaseException:
            if ready.told.allocation_id and not isinstance(gpu_config, AllocateTold | Prepared):
                library.cleanup_gpu_resources(allocation_id=ready.told.allocation_id)
            raise
        return self._setup

    def create_tensorflow_model_with_gpu(self, kind: str, model_config: Mapping[str, Any]) -> Any:
        """A keras.Model, on all devices that were set up."""
        shape = models.read(kind, model_config)
        with self.setup.strategy.scope():
            return build(shape)

    def learner(
        self,
        kind: str,
        model_config: Mapping[str, Any],
        learning_rate: float,
        *,
        classes: bool,
        seed: int = 0,
    ) -> TensorFlowLearner:
        _tensorflow().keras.utils.set_random_seed(seed)
        model = self.create_tensorflow_model_with_gpu(kind, model_config)
        return TensorFlowLearner(self.setup, model, learning_rate, classes)

    def room(self) -> float:
        """Bytes that this process may take on each device."""
        if limit := self.setup.settings.memory_limit_mb:
            return limit * 2.0**20
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))

    def close(self) -> None:
        """The cards stay held: cleanup_gpu_resources gives them back."""
        self._setup = None


class TensorFlowLearner:
    """A model with what teaches it."""

    def __init__(self, setup: TensorFlowSetup, model: Any, learning_rate: float, classes: bool) -> None:
        keras = _tensorflow().keras
        self.model = model
        self.replicas = setup.strategy.num_replicas_in_sync
        self._strategy = setup.strategy
        with setup.strategy.scope():
            optimiser = keras.optimizers.Adam(learning_rate)
            if setup.settings.mixed_precision == "mixed_float16":
                optimiser = keras.mixed_precision.LossScaleOptimizer(optimiser)
            optimiser.build(model.trainable_variables)
        self._optimiser = optimiser
        self._loss = (
            keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
            if classes
            else keras.losses.MeanSquaredError(reduction="sum")
        )
        self._steps: dict[int, Any] = {}
        """compiled, by the number of parts"""

    def step(self, inputs: np.ndarray[Any, Any], targets: np.ndarray[Any, Any], batch: int = 0) -> float:
        """Of all replicas' samples, each replica its share, `batch` at a time; 0: all at once. The loss."""
        tf = _tensorflow()
        each = len(inputs) // self.replicas
        parts = -(-each // batch) if batch else 1
        if parts not in self._steps:
            self._steps[parts] = tf.function(lambda *shares: self._step(parts, *shares), autograph=False)
        shares = [
            self._strategy.experimental_distribute_values_from_function(
                lambda place, of=of: tf.constant(of[place.replica_id_in_sync_group :: self.replicas])
            )
            for of in (inputs, targets)
        ]
        return float(self._steps[parts](*shares)) / len(inputs)

    def _step(self, parts: int, inputs: Any, targets: Any) -> Any:
        losses = self._strategy.run(self._on_replica, args=(parts, inputs, targets))
        return self._strategy.reduce(_tensorflow().distribute.ReduceOp.SUM, losses, axis=None)

    def _on_replica(self, parts: int, inputs: Any, targets: Any) -> Any:
        """Keras's own accumulation cannot meet the other replicas: it stands in a condition."""
        tf = _tensorflow()
        variables = self.model.trainable_variables
        gradients = [tf.zeros_like(one) for one in variables]
        total = tf.zeros(())
        count = inputs.shape[0]
        size = -(-count // parts)
        for start in range(0, count, size):
            with tf.GradientTape() as tape:
                told = self.model(inputs[start : start + size], training=True)
                loss = tf.cast(self._loss(targets[start : start + size], told), tf.float32)
                scaled = self._scaled(loss / (count * self.replicas))
            found = tape.gradient(scaled, variables)
            gradients = [before + one for before, one in zip(gradients, found, strict=True)]
            total += loss
        self._optimiser.apply_gradients(zip(gradients, variables, strict=True))
        return total

    def _scaled(self, loss: Any) -> Any:
        return self._optimiser.scale_loss(loss)

    def weights(self) -> Mapping[str, np.ndarray[Any, Any]]:
        return {one.path: one.numpy() for one in self.model.weights}


def build(shape: models.Mlp) -> Any:
    layers = _tensorflow().keras.layers
    stack = [layers.Input((shape.input_dim,))]
    for units in shape.hidden:
        stack.append(layers.Dense(units, activation=shape.activation))
        if shape.dropout:
            stack.append(layers.Dropout(shape.dropout))
    # a loss in half precision would overflow
    stack.append(layers.Dense(shape.output_dim, dtype="float32"))
    return _tensorflow().keras.Sequential(stack)


def _tensorflow() -> Any:
    try:
        return importlib.import_module("tensorflow")
    except ImportError as error:
        raise MachineError(
            "tensorflow is not installed: pip install 'tensorflow[and-cuda]', or for the CPU alone "
            "pip install --no-deps -r env/locks/tensorflow.txt"
        ) from error


def _set_up(ready: Prepared, node_name: str, rehearse: bool) -> TensorFlowSetup:
    settings = ready.tensorflow
    if ready.told.gpu_config.enabled:
        surroundings.enter(surroundings.environment(ready.told, node_name), _too_late())
    tf = _tensorflow()
    try:
        if rehearse:
            devices = _on_cpu(tf, len(settings.visible_devices))
        else:
            devices, settings = _on_cards(tf, ready)
    except RuntimeError as error:  # the context is fixed once anything was computed
        raise UsageError(
            f"TensorFlow has computed already, and takes no devices any more ({error}): set them up first, "
            "or let AlgorithmTrainingEngine train in a process of its own"
        ) from error
    tf.keras.mixed_precision.set_global_policy(settings.mixed_precision)
    return TensorFlowSetup(settings, ready.told, _strategy(tf, settings, devices), devices)


def _too_late() -> str:
    if "tensorflow" not in sys.modules:
        return ""
    context = importlib.import_module("tensorflow.python.eager.context").context()
    # it lists the machine's devices once, when it is first asked
    return "TensorFlow" if getattr(context, "_physical_devices", ()) is not None else ""


def _on_cpu(tf: Any, count: int) -> Sequence[str]:
    """As many as there would be cards."""
    tf.config.set_visible_devices([], "GPU")
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * max(1, count))
    return [f"CPU:{number}" for number in range(max(1, count))]


def _on_cards(tf: Any, ready: Prepared) -> tuple[Sequence[str], TensorFlowSettings]:
    settings, there = ready.tensorflow, tf.config.list_physical_devices("GPU")
    if settings.visible_devices and len(there) != len(settings.visible_devices):
        raise MachineError(
            f"{len(settings.visible_devices)} {ready.told.gpu_config.gpu_type} were allocated, and "
            f"TensorFlow {tf.__version__} finds {len(there)} here: install tensorflow[and-cuda]; "
            "cards that only a file describes can be rehearsed: rehearse=True"
        )
    chosen = [there[number] for number in settings.visible_devices]
    tf.config.set_visible_devices(chosen, "GPU")
    for card in chosen:
        if settings.memory_limit_mb:
            limit = tf.config.LogicalDeviceConfiguration(memory_limit=settings.memory_limit_mb)
            tf.config.set_logical_device_configuration(card, [limit])
        else:
            tf.config.experimental.set_memory_growth(card, True)
    if settings.mixed_precision == "mixed_bfloat16" and not all(_has_bf16(tf, card) for card in chosen):
        log.warning("these cards only emulate bfloat16: float16 is taken")
        settings = settings.model_copy(update={"mixed_precision": "mixed_float16"})
    return [f"GPU:{number}" for number in settings.visible_devices] or ["CPU:0"], settings


def _has_bf16(tf: Any, card: Any) -> bool:
    told = tf.config.experimental.get_device_details(card).get("compute_capability")
    return told is None or tuple(told) >= BF16_SINCE


def _strategy(tf: Any, settings: TensorFlowSettings, devices: Sequence[str]) -> Any:
    if settings.strategy == "MirroredStrategy":
        return tf.distribute.MirroredStrategy(devices)
    if settings.strategy == "MultiWorkerMirroredStrategy":
        if "TF_CONFIG" not in os.environ:
            raise UsageError("cards on several nodes: start a process on each, with its place in TF_CONFIG")
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


_integration = TensorFlowGPUIntegration()


def get_tensorflow_gpu_integration() -> TensorFlowGPUIntegration:
    """The one of this process: a process has one TensorFlow."""
    return _integration


def setup_tensorflow_gpu(
    gpu_config: AllocateTold | library.Asked | None = None, *, node_name: str = "", rehearse: bool = False
) -> TensorFlowSetup:
    return _integration.setup_tensorflow_gpu(gpu_config, node_name=node_name, rehearse=rehearse)


def create_tensorflow_model_with_gpu(kind: str, model_config: Mapping[str, Any]) -> Any:
    return _integration.create_tensorflow_model_with_gpu(kind, model_config)
