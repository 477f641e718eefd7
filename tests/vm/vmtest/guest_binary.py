"""The `nvmf` command in the guests: the machine's own build with the libraries that it is linked to, so
that it does not matter which C library the guests have.

It comes on a disk of its own, as a tar archive: nothing of the guests' image depends on it.
"""
import io
import os
import subprocess
import tarfile

# where it is in a guest; /usr/local/bin/nvmf runs it
FOLDER = "/run/nvmf"
SERIAL = "nvmf"


class GuestBinary:
    """`binary`: the nvmf of the machine; `archive`: the file to make of it, for all guests."""

    def __init__(self, binary, archive):
        self.archive = archive
        loader, libraries = linked_to(binary)
        program = f"{FOLDER}/bin/nvmf"
        if loader is not None:
            program = f"{FOLDER}/lib/{os.path.basename(loader)} --library-path {FOLDER}/lib {program}"
        with tarfile.open(archive, "w") as tar:
            add(tar, "bin/nvmf", binary)
            for library in libraries:
                add(tar, f"lib/{os.path.basename(library)}", library)
            script = f'#!/bin/sh\nexec {program} "$@"\n'.encode()
            entry = tarfile.TarInfo("nvmf")
            entry.mode, entry.size = 0o755, len(script)
            tar.addfile(entry, io.BytesIO(script))

    def devices(self):
        """qemu's arguments."""
        return [
            "-drive", f"if=none,id=nvmf,file={self.archive},format=raw,readonly=on",
            "-device", f"virtio-blk-pci,drive=nvmf,serial={SERIAL}",
        ]  # fmt: skip

    def install(self, guest):
        """In a guest that has booted: from now on `nvmf` is a command there."""
        guest.run(
            f"set -e; serial=$(grep -lx {SERIAL} /sys/block/vd*/serial); disk=${{serial%/serial}}\n"
            f"mkdir {FOLDER}; tar -xf /dev/${{disk##*/}} -C {FOLDER}\n"
            f"mkdir -p /usr/local/bin; ln -s {FOLDER}/nvmf /usr/local/bin/nvmf; nvmf --version"
        )


def linked_to(binary):
    """The loader of a program, or None if it needs none, and all libraries, the loader among them."""
    done = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False)
    loader, libraries = None, []
    for line in done.stdout.splitlines():
        # NAME => PATH (ADDRESS), or for the loader PATH (ADDRESS)
        name, arrow, path = line.strip().partition(" => ")
        path = (path if arrow else name).split(" (")[0]
        if not path.startswith("/"):
            continue  # the kernel's own, or "statically linked"
        libraries.append(path)
        if not arrow:
            loader = path
    return loader, libraries


def add(tar, name, path):
    entry = tarfile.TarInfo(name)
    with open(path, "rb") as file:
        entry.mode, entry.size = 0o755, os.fstat(file.fileno()).st_size
        tar.addfile(entry, file)
