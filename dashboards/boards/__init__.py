"""The dashboards, a file each."""

from __future__ import annotations

from dashboards.boards import faults, hosts, routing, runtime
from dashboards.charts import Board

BOARDS: tuple[Board, ...] = (routing.BOARD, faults.BOARD, runtime.BOARD, hosts.BOARD)
