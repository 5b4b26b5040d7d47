"""What NVIDIA's driver tells of its GPUs, where the package nvidia-ml-py is installed."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from tallyboard.system.proc import Figures

GPUS_MAX: Final = 16
_MILLIWATTS: Final = 1_000


class Gpus:
    """`gpu0/utilization_percent`, `…/memory_percent`, `…/memory_bytes`, `…/temperature_celsius`, `…/power_watts`.

    Numbered as nvidia-smi numbers them: all that the process may see, whether it uses them or not. The driver is asked
    for the first time when the figures are, and a call that fails leaves its figures out.
    """

    def __init__(self, nvml: Any) -> None:
        """nvml: the module `pynvml`."""
        self._nvml = nvml
        self._handles: list[Any] | None = None

    def __call__(self) -> Figures:
        """The figures."""
        if self._handles is None:
            self._handles = self._open()
        return {
            name: value for i, handle in enumerate(self._handles) for name, value in self._device(f"gpu{i}", handle)
        }

    def _open(self) -> list[Any]:
        nvml = self._nvml
        if _asked(lambda: nvml.nvmlInit() or True) is None:
            return []
        count = _asked(nvml.nvmlDeviceGetCount) or 0
        return [_asked(nvml.nvmlDeviceGetHandleByIndex, i) for i in range(min(count, GPUS_MAX))]

    def _device(self, name: str, handle: Any) -> Iterator[tuple[str, float]]:
        if handle is None:
            return
        nvml = self._nvml
        if (rates := _asked(nvml.nvmlDeviceGetUtilizationRates, handle)) is not None:
            yield f"{name}/utilization_percent", float(rates.gpu)
        if (memory := _asked(nvml.nvmlDeviceGetMemoryInfo, handle)) is not None:
            yield f"{name}/memory_bytes", float(memory.used)
            yield f"{name}/memory_percent", 100 * memory.used / max(memory.total, 1)
        if (heat := _asked(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)) is not None:
            yield f"{name}/temperature_celsius", float(heat)
        if (power := _asked(nvml.nvmlDeviceGetPowerUsage, handle)) is not None:
            yield f"{name}/power_watts", power / _MILLIWATTS


def find() -> list[Gpus]:
    """The GPUs, if there is a library to ask for them. Imports it, so call it on the program's own thread."""
    try:
        import pynvml
    except Exception:  # noqa: BLE001 - a broken installation may raise anything, and harms no training
        return []
    return [Gpus(pynvml)]


def _asked(ask: Callable[..., Any], *about: Any) -> Any:
    """What the driver answers; None if it does not."""
    try:
        return ask(*about)
    except Exception:  # noqa: BLE001 - an error of its own for each thing that a device can't tell, and foreign ones
        return None
