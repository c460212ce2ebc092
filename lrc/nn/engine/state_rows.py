"""Operations with states as rows of the table, for both loops."""

from __future__ import annotations

from lrc.nn.engine.program import Program
from lrc.nn.engine.rows import Row
from lrc.nn.ssd import SsdScan
from lrc.nn.state_space import Convolve, SelectiveScan
from lrc_kernels.cpu.engine import table
from lrc_kernels.cpu.engine.scans import convolve
from lrc_kernels.cpu.scan.selective import scan_channels
from lrc_kernels.cpu.scan.ssd import scan_head


def state_row(op: Convolve | SelectiveScan | SsdScan, source: Program) -> Row:
    """The row of an operation with a state."""
    at, state = source.context, source.state(op.state)
    if isinstance(op, Convolve):
        taps, channels = op.weight.shape
        columns = {"count": taps, "width": channels, "address": at.address(op.weight),
                   "bias": at.address(op.bias), "state": state,
                   "entry": convolve.address()}  # fmt: skip
        return Row(table.CONVOLVE, target=op.value, changes=True, columns=columns)
    columns = {"address": at.address(op.decay), "bias": at.address(op.skip), "state": state}
    if isinstance(op, SelectiveScan):
        states, channels = op.decay.shape
        code, columns = table.SELECTIVE_SCAN, columns | {
            "count": states, "width": channels, "entry": scan_channels.address(),
        }  # fmt: skip
    else:
        code, columns = table.SSD_SCAN, columns | {
            "count": op.size, "width": op.head_dim, "kv_heads": op.groups,
            "stride": len(op.decay), "entry": scan_head.address(),
        }  # fmt: skip
    operands = {"keys": op.steps, "values": op.inputs, "outputs": op.outputs}
    return Row(code, op.source, op.target, columns=columns, operands=operands)
