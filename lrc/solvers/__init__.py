"""Solvers that turn one matrix and one second moment into Q + L R."""

from lrc.solvers.api import decompose as decompose
from lrc.solvers.base import Decomposition as Decomposition
from lrc.solvers.base import Trace as Trace
from lrc.solvers.site import SiteMetric as SiteMetric
