"""
The memory toolbox for Python services on Linux: share memory, talk through it, see it, control it.

Names are imported when they are first used, so that ``import memfast`` costs a
service that only reads figures nothing of what it does not use.
"""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memfast.census import Object as Object
    from memfast.census import Reaped as Reaped
    from memfast.census import objects as objects
    from memfast.census import reap as reap
    from memfast.channel import Channel as Channel
    from memfast.channel import ChannelStats as ChannelStats
    from memfast.channel import Peers as Peers
    from memfast.counters import vmstat as vmstat
    from memfast.diagnosis import doctor as doctor
    from memfast.ends import Receiver as Receiver
    from memfast.ends import Sender as Sender
    from memfast.errors import AccessError as AccessError
    from memfast.errors import ClosedError as ClosedError
    from memfast.errors import Empty as Empty
    from memfast.errors import ExistsError as ExistsError
    from memfast.errors import Full as Full
    from memfast.errors import LayoutError as LayoutError
    from memfast.errors import LimitError as LimitError
    from memfast.errors import MemfastError as MemfastError
    from memfast.errors import MessageTooLarge as MessageTooLarge
    from memfast.errors import NoSpaceError as NoSpaceError
    from memfast.errors import NotFoundError as NotFoundError
    from memfast.errors import NotSupportedError as NotSupportedError
    from memfast.errors import OwnerDiedError as OwnerDiedError
    from memfast.errors import PeerDiedError as PeerDiedError
    from memfast.errors import RoleTakenError as RoleTakenError
    from memfast.errors import StaleHandleError as StaleHandleError
    from memfast.errors import WaitTimeout as WaitTimeout
    from memfast.findings import Finding as Finding
    from memfast.mapping import MemoryMap as MemoryMap
    from memfast.mapping import Residency as Residency
    from memfast.procmaps import Vma as Vma
    from memfast.procmaps import vmas as vmas
    from memfast.procmem import Faults as Faults
    from memfast.procmem import faults as faults
    from memfast.psi import pressure as pressure
    from memfast.segment import Segment as Segment
    from memfast.sysmem import meminfo as meminfo
    from memfast.sysmem import swap_memory as swap_memory
    from memfast.sysmem import sysinfo as sysinfo
    from memfast.sysmem import virtual_memory as virtual_memory
    from memfast.trigger import pressure_watch as pressure_watch

__version__ = "0.1.0"

# Public name -> the module that has it. tests/contracts holds it against the imports above.
_HOMES = {
    "Object": "census",
    "Reaped": "census",
    "objects": "census",
    "reap": "census",
    "Channel": "channel",
    "ChannelStats": "channel",
    "Peers": "channel",
    "vmstat": "counters",
    "doctor": "diagnosis",
    "Receiver": "ends",
    "Sender": "ends",
    "AccessError": "errors",
    "ClosedError": "errors",
    "Empty": "errors",
    "ExistsError": "errors",
    "Full": "errors",
    "LayoutError": "errors",
    "LimitError": "errors",
    "MemfastError": "errors",
    "MessageTooLarge": "errors",
    "NoSpaceError": "errors",
    "NotFoundError": "errors",
    "NotSupportedError": "errors",
    "OwnerDiedError": "errors",
    "PeerDiedError": "errors",
    "RoleTakenError": "errors",
    "StaleHandleError": "errors",
    "WaitTimeout": "errors",
    "Finding": "findings",
    "MemoryMap": "mapping",
    "Residency": "mapping",
    "Vma": "procmaps",
    "vmas": "procmaps",
    "Faults": "procmem",
    "faults": "procmem",
    "pressure": "psi",
    "Segment": "segment",
    "meminfo": "sysmem",
    "swap_memory": "sysmem",
    "sysinfo": "sysmem",
    "virtual_memory": "sysmem",
    "pressure_watch": "trigger",
}
_MODULES = ("channel", "errors", "mapping", "procmem", "stats", "sysv")

__all__ = ["__version__", *_HOMES, *_MODULES]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is not None:
        value: object = getattr(import_module(f"memfast.{home}"), name)
    elif name in _MODULES:
        value = import_module(f"memfast.{name}")
    else:
        raise AttributeError(f"module 'memfast' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
