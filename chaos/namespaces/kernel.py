"""Network namespaces and TUN devices, as the kernel offers them.

Sources: unshare(2), setns(2), netdevice(7), and `Documentation/networking/tuntap.rst` of Linux.
A namespace belongs to a thread; what the thread starts, and each socket it opens, is in it for
good, wherever the thread goes next.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

DEVICE: Final = Path("/dev/net/tun")
MTU_BYTES: Final = 1500
"""As on an Ethernet; the kernel's default for a TUN device."""

_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_IFF_UP: Final = 0x0001
_FLAGS: Final = struct.Struct("16sH22x")
_ADDRESS: Final = struct.Struct("16sHH4s16x")
_MASK: Final = "255.255.255.0"
_TRIAL_ADDRESS: Final = "192.0.2.1"


def current() -> int:
    """Return a handle of the namespace this thread is in; close it when it is no longer needed."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def enter(handle: int) -> None:
    """Put this thread into a namespace.

    Raises:
        OSError: It may not; that takes root.
    """
    _call("setns", ctypes.c_int(handle), ctypes.c_int(_CLONE_NEWNET))


@contextlib.contextmanager
def inside(handle: int) -> Iterator[None]:
    """Be in a namespace for as long as the block lasts, which must not wait for anything."""
    before = current()
    try:
        enter(handle)
        try:
            yield
        finally:
            enter(before)
    finally:
        os.close(before)


def create(name: str, address: str) -> tuple[int, int]:
    """Make a namespace with a TUN device in it; this thread stays where it is.

    Args:
        name: Of the device.
        address: Of the device, in a network of 256 addresses.

    Returns:
        Handles of the namespace, and of the device's other end: a read gives a packet that was
        sent in the namespace, a write is one that arrives there. Neither blocks. With the
        second the device goes.

    Raises:
        OSError: The kernel refuses.
    """
    before = current()
    try:
        _call("unshare", ctypes.c_int(_CLONE_NEWNET))
        try:
            made = current()
            try:
                return made, _tunnel(name, address)
            except BaseException:
                os.close(made)
                raise
        finally:
            enter(before)
    finally:
        os.close(before)


def missing() -> str:
    """Say what is missing here for namespaces with a network; "" if nothing is.

    It is tried, since root alone says little in a container.
    """
    if sys.platform != "linux":
        return "network namespaces are of Linux"
    if os.geteuid() != 0:
        return "it takes root"
    if not DEVICE.exists():
        return f"there is no {DEVICE}"
    refused: list[str] = []

    def attempt() -> None:
        try:
            for handle in create("trial", _TRIAL_ADDRESS):
                os.close(handle)
        except OSError as error:
            refused.append(f"the kernel refuses: {error}")

    # A thread of its own: what goes wrong half way leaves no other thread in a strange place.
    trial = threading.Thread(target=attempt, name="trial of namespaces")
    trial.start()
    trial.join()
    return "".join(refused)


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _tunnel(name: str, address: str) -> int:
    handle = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(handle, _TUNSETIFF, _FLAGS.pack(name.encode(), _IFF_TUN | _IFF_NO_PI))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, _MASK)):
                packed = _ADDRESS.pack(name.encode(), socket.AF_INET, 0, socket.inet_aton(value))
                fcntl.ioctl(one, request, packed)
            for device in (name, "lo"):
                fcntl.ioctl(one, _SIOCSIFFLAGS, _FLAGS.pack(device.encode(), _IFF_UP))
    except BaseException:
        os.close(handle)
        raise
    return handle
