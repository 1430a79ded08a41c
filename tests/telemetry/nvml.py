from typing import Any


class FakeNvml:
    """pynvml with *cards*, each of which tells what it knows, and fails for the rest."""

    NVML_TEMPERATURE_GPU, NVML_DEVICE_ARCH_ADA = 0, 8

    class NVMLError(Exception):
        pass

    def __init__(self, *cards: dict[str, Any]) -> None:
        self.cards = cards

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        return lambda *args: self._answer(name, *args)

    def _answer(self, name: str, index: int = 0, *_: object) -> Any:
        match name:
            case "nvmlInit":
                return None
            case "nvmlDeviceGetCount":
                return len(self.cards)
            case "nvmlDeviceGetHandleByIndex":
                return index
            case "nvmlSystemGetDriverVersion":
                return b"580.65.06"
        if (known := name.removeprefix("nvmlDeviceGet")) not in self.cards[index]:
            raise self.NVMLError("not supported")
        return self.cards[index][known]
