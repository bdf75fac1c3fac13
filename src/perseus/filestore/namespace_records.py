"""How inodes lie in the store.

``inode/`` + id (8 bytes) holds one record: a version byte, then msgpack of a
FileRecord or FolderRecord. The parent and the name stand in the child, so a
rename writes one key. The first chunks of a file lie in its record, the others
in pages of their own, ``extent/`` + id + page (4 bytes), so that sealing a
chunk of a long file rewrites one page and not the whole list. ``files/next``
holds an id below which any id may have been used: ids are reserved by the
thousand and never used twice. Lease ends are not kept: after a restart every
writer gets a whole lease.
"""

from collections.abc import Iterable, Iterator

import msgspec

from perseus.errors import IncompatibleError
from perseus.filestore.namespace_tree import (
    NO_PARTS,
    ROOT_ID,
    File,
    Folder,
    Inode,
    Part,
    Tree,
    Writer,
    weight,
)
from perseus.runtime.machine import Write

INODE = b"inode/"
EXTENT = b"extent/"
COUNTER = b"files/"
NEXT = COUNTER + b"next"
SCHEMA = 1
# Chunks in an inode's record, and in each page after it.
PAGE_PARTS = 64


class WriterRecord(msgspec.Struct, array_like=True, frozen=True):
    """A Writer without its lease's end."""

    who: str
    chunk: int
    ending: bool
    target: int
    target_name: str
    replace: bool


class FileRecord(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A File and its first chunks; ``parent`` 0 when it is detached."""

    parent: int
    name: str
    owner: str
    created_at_s: float
    modified_at_s: float
    replicas: int
    size_bytes: int
    parts: list[Part]
    part_count: int
    inline: bytes
    checksum: int | None
    epoch: int
    attempt: str
    writer: WriterRecord | None


class FolderRecord(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """A Folder without its children, who name it."""

    parent: int
    name: str
    owner: str
    created_at_s: float
    modified_at_s: float
    replicas: int
    removed: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(FileRecord | FolderRecord)
_page_decoder = msgspec.msgpack.Decoder(list[Part])
_HEAD = bytes([SCHEMA])


def inode_key(inode: int) -> bytes:
    """The key of an inode's record."""
    return INODE + inode.to_bytes(8, "big")


def extent_key(inode: int, page: int) -> bytes:
    """The key of a page of chunks; page 0 is the inode's own record."""
    return EXTENT + inode.to_bytes(8, "big") + page.to_bytes(4, "big")


def writes_for(inode: Inode, parts_from: int) -> Iterator[Write]:
    """The record, and the pages that hold chunks from number ``parts_from`` on."""
    yield Write(inode_key(inode.id), _HEAD + _encoder.encode(_record(inode)))
    if not isinstance(inode, File) or len(inode.parts) <= PAGE_PARTS:
        return
    last = (len(inode.parts) - 1) // PAGE_PARTS
    for page in range(max(1, parts_from // PAGE_PARTS), last + 1):
        parts = inode.parts[page * PAGE_PARTS : (page + 1) * PAGE_PARTS]
        yield Write(extent_key(inode.id, page), _HEAD + _encoder.encode(parts))


def removal_of(inode: Inode) -> Iterator[Write]:
    """Takes the record and all pages away."""
    yield Write(inode_key(inode.id), None)
    if isinstance(inode, File) and len(inode.parts) > PAGE_PARTS:
        for page in range(1, (len(inode.parts) - 1) // PAGE_PARTS + 1):
            yield Write(extent_key(inode.id, page), None)


def counter_write(reserved: int) -> Write:
    """No id at or above ``reserved`` has been used."""
    return Write(NEXT, _HEAD + _encoder.encode(reserved))


def load_tree(items: Iterable[tuple[bytes, bytes]]) -> tuple[Tree, int]:
    """The tree, and the next id that was surely never used."""
    tree = Tree()
    parents: list[tuple[Inode, int]] = []
    pages: dict[int, dict[int, memoryview]] = {}
    next_id = ROOT_ID + 1
    for key, value in items:
        body = _body(key, value)
        if key == NEXT:
            next_id = msgspec.msgpack.decode(body, type=int)
        elif key.startswith(EXTENT):
            inode_id = int.from_bytes(key[-12:-4], "big")
            pages.setdefault(inode_id, {})[int.from_bytes(key[-4:], "big")] = body
        else:
            inode_id = int.from_bytes(key[len(INODE) :], "big")
            parents.append(_restore(tree, inode_id, _decoder.decode(body)))
    for inode_id, by_number in pages.items():
        _add_pages(tree, inode_id, by_number)
    _link(tree, parents)
    return tree, next_id


def _body(key: bytes, value: bytes) -> memoryview:
    if value[0] != SCHEMA:
        raise IncompatibleError(
            f"{key!r} in the master's state has schema {value[0]}; this program knows {SCHEMA}",
            hint="upgrade Perseus on the master",
        )
    return memoryview(value)[1:]


def _record(inode: Inode) -> FileRecord | FolderRecord:
    parent = inode.parent.id if inode.parent is not None else 0
    if isinstance(inode, Folder):
        return FolderRecord(
            parent,
            inode.name,
            inode.owner,
            inode.created_at_s,
            inode.modified_at_s,
            inode.replicas,
            inode.removed,
        )
    assert isinstance(inode, File)
    return FileRecord(
        parent=parent,
        name=inode.name,
        owner=inode.owner,
        created_at_s=inode.created_at_s,
        modified_at_s=inode.modified_at_s,
        replicas=inode.replicas,
        size_bytes=inode.size_bytes,
        parts=inode.parts[:PAGE_PARTS],
        part_count=len(inode.parts),
        inline=inode.inline,
        checksum=inode.checksum,
        epoch=inode.epoch,
        attempt=inode.attempt,
        writer=_writer_record(inode.writer),
    )


def _writer_record(writer: Writer | None) -> WriterRecord | None:
    if writer is None:
        return None
    return WriterRecord(
        writer.who,
        writer.chunk,
        writer.ending,
        writer.target,
        writer.target_name,
        writer.replace,
    )


def _restore(tree: Tree, inode_id: int, record: FileRecord | FolderRecord) -> tuple[Inode, int]:
    owner = tree.owner(record.owner)
    inode: File | Folder
    if isinstance(record, FolderRecord):
        inode = Folder(inode_id, owner, record.created_at_s)
        inode.removed = record.removed
    else:
        inode = File(inode_id, owner, record.created_at_s)
        inode.size_bytes, inode.inline = record.size_bytes, record.inline
        inode.parts = record.parts or NO_PARTS
        inode.checksum, inode.epoch = record.checksum, record.epoch
        inode.attempt = record.attempt
        inode.writer = _restore_writer(record.writer)
    inode.modified_at_s, inode.replicas = record.modified_at_s, record.replicas
    inode.name = record.name
    tree.inodes[inode_id] = inode
    return inode, record.parent


def _restore_writer(record: WriterRecord | None) -> Writer | None:
    if record is None:
        return None
    writer = Writer(record.who)
    writer.chunk, writer.ending = record.chunk, record.ending
    writer.target, writer.target_name = record.target, record.target_name
    writer.replace = record.replace
    return writer


def _add_pages(tree: Tree, inode_id: int, by_number: dict[int, memoryview]) -> None:
    inode = tree.inodes[inode_id]
    assert isinstance(inode, File)
    for number in sorted(by_number):
        inode.parts.extend(_page_decoder.decode(by_number[number]))


def _link(tree: Tree, parents: list[tuple[Inode, int]]) -> None:
    """Hangs all under their folders first, then sums up, each folder after its children."""
    for inode, parent_id in parents:
        if parent_id:
            parent = tree.inodes[parent_id]
            assert isinstance(parent, Folder)
            inode.parent = parent
            parent.add(inode)
    tops = [tree.root, *(inode for inode, parent_id in parents if not parent_id)]
    for top in tops:
        if isinstance(top, Folder):
            _sum_up(top)


def _sum_up(top: Folder) -> None:
    order = [top]
    for folder in order:
        order.extend(child for child in folder.children.values() if isinstance(child, Folder))
    for folder in reversed(order):
        for child in folder.children.values():
            folder.totals = folder.totals.plus(weight(child))
