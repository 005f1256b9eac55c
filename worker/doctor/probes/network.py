"""What several cards or machines would talk over."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path

from worker.doctor.facts import Interface, Network, Port

VARIABLES = ("NCCL_IB_DISABLE", "NCCL_P2P_DISABLE", "NCCL_SOCKET_IFNAME", "NCCL_DEBUG")
_VIRTUAL = (
    *(
        "docker",
        "br-",
        "veth",
        "virbr",
        "cni",
        "flannel",
        "cali",
        "tun",
        "tap",
        "wg",
        "tailscale",
        "zt",
        "ifb",
    ),
)
_SIOCGIFADDR = 0x8915


def look(sys: Path = Path("/sys"), environment: Mapping[str, str] = os.environ) -> Network:
    nets = sorted((sys / "class/net").glob("*"))
    return Network(
        [_interface(net) for net in nets if net.name != "lo" and net.is_dir()],
        [*_ports(sys)],
        {name: environment[name] for name in VARIABLES if name in environment},
    )


def _interface(net: Path) -> Interface:
    speed = _read(net / "speed")
    return Interface(
        net.name,
        # a bridge's and a container's own say unknown
        _read(net / "operstate") in ("up", "unknown"),
        not net.name.startswith(_VIRTUAL),
        _address(net.name),
        int(speed) if speed.isdecimal() else None,
    )


def _address(name: str) -> str | None:
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        told = ioctl(one.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        return socket.inet_ntoa(told[20:24])
    return None


def _ports(sys: Path) -> Iterator[Port]:
    for port in sorted((sys / "class/infiniband").glob("*/ports/*")):
        name = f"{port.parents[1].name}/{port.name}"
        yield Port(name, "ACTIVE" in _read(port / "state"), _read(port / "link_layer") or "InfiniBand")


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""
