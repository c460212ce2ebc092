"""Solvers that turn one matrix and one second moment into Q + L R."""

from lrc.decompose.api import decompose as decompose
from lrc.decompose.base import Decomposition as Decomposition
from lrc.decompose.base import Trace as Trace
from lrc.decompose.site import SiteMetric as SiteMetric
