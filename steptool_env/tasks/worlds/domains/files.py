"""A file server: files, folders, disks and their users."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link, Transfer

__all__ = ["FILES"]

_FILE = {"modified": "date", "type": "text|image|archive"}
_FOLDER = {"created": "date", "access": "private|shared|public"}

FILES = Domain(
    name="files",
    entities={
        "file": Entity("FI", {"size": "amount", "checksum": "code"}, {"folder": "folder", "author": "user", "backup": "backup"}, "a file", _FILE),
        "folder": Entity("FO", {"quota": "amount", "label": "code"}, {"disk": "disk", "owner": "user"}, "a folder", _FOLDER),
        "user": Entity("US", {"name": "name", "uid": "code"}, {"group": "group", "home": "folder"}, "a user", {"expires": "date"}),
        "group": Entity("GR", {"admin": "name", "gid": "code"}, {"share": "share", "owner": "user"}, "a group"),
        "disk": Entity("DI", {"capacity": "amount", "serial": "code"}, {"server": "server", "mirror": "backup"}, "a disk", {"bought": "date", "weight": "kg"}),
        "share": Entity("SA", {"port": "code", "limit": "amount"}, {"server": "server", "root": "folder"}, "a network share", {"mode": "open|guarded|sealed"}),
        "server": Entity("SE", {"operator": "name", "rack": "code"}, {"admin": "user", "spare": "disk"}, "a server", {"uptime": "hours"}),
        "backup": Entity(
            "BA", {"volume": "amount", "key": "code"}, {"server": "server", "share": "share"}, "a backup", {"taken": "date", "runtime": "minutes"}
        ),
    },
    changes=(Change("file", "lock", "locked"), Change("disk", "unmount", "unmounted"), Change("share", "disable", "disabled")),
    procedures=(Change("disk", "format", "formatted", after="unmounted"), Change("file", "sign", "signed", after="locked")),
    links=(Link("file", "move", "folder"), Link("folder", "relocate", "disk")),
    transfers=(Transfer("folder", "quota", "quota"),),
)
