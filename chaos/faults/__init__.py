"""Faults: the kinds, one file each, and a fault, which is a kind placed on one attempt.

To add a kind, write its file and enter it in `registry.py`, or in a package of your own as an entry point.
"""

from chaos.faults.bandwidth import Bandwidth
from chaos.faults.crash import Crash
from chaos.faults.disturbance import Disturbance
from chaos.faults.fault import Fault, decode, fault_of
from chaos.faults.hang import Hang
from chaos.faults.hog import Hog
from chaos.faults.host import HostFault
from chaos.faults.kind import (
    CallUnderFault,
    Ending,
    FaultKind,
    Hop,
    Key,
    Lane,
    Refusal,
    Site,
    Struck,
    StruckHost,
    Toxic,
    answered,
)
from chaos.faults.latency import Latency
from chaos.faults.leak import Leak
from chaos.faults.link_delay import LinkDelay
from chaos.faults.lost import lost, timed_out
from chaos.faults.node_killed import NodeKilled
from chaos.faults.packet_loss import PacketLoss
from chaos.faults.partition import Partition
from chaos.faults.registry import FAULTS, kind_from_dict, kind_to_dict
from chaos.faults.reset import Reset
from chaos.faults.service_killed import ServiceKilled
from chaos.faults.service_paused import ServicePaused
from chaos.faults.slicer import Slicer
from chaos.faults.stall import Stall
from chaos.faults.status import Status

__all__ = [
    "FAULTS",
    "Bandwidth",
    "CallUnderFault",
    "Crash",
    "Disturbance",
    "Ending",
    "Fault",
    "FaultKind",
    "Hang",
    "Hog",
    "Hop",
    "HostFault",
    "Key",
    "Lane",
    "Latency",
    "Leak",
    "LinkDelay",
    "NodeKilled",
    "PacketLoss",
    "Partition",
    "Refusal",
    "Reset",
    "ServiceKilled",
    "ServicePaused",
    "Site",
    "Slicer",
    "Stall",
    "Status",
    "Struck",
    "StruckHost",
    "Toxic",
    "answered",
    "decode",
    "fault_of",
    "kind_from_dict",
    "kind_to_dict",
    "lost",
    "timed_out",
]
