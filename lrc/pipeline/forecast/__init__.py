"""What a compression will take, before it is begun: bytes, memory, disk and minutes."""

from __future__ import annotations

from lrc.pipeline.forecast.forecast import Forecast, forecast

__all__ = ["Forecast", "forecast"]
