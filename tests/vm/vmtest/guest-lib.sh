# Shell functions for the guest; the scenarios source them as /run/lib.sh.
# shellcheck shell=bash

nvmet=/sys/kernel/config/nvmet

# nvme_devices NQN COUNT: once the connected subsystem NQN has COUNT namespaces, its controller and
# then each namespace as NSID=/dev/nvmeXnY, one a line.
nvme_devices() {
  local subsystem block devices
  for _ in $(seq 100); do
    for subsystem in /sys/class/nvme-subsystem/nvme-subsys*; do
      [ "$(cat "$subsystem/subsysnqn" 2> /dev/null)" = "$1" ] || continue
      devices=
      # with several paths allowed the disks hang below the subsystem, otherwise below the controller
      for block in "$subsystem"/nvme*n[0-9]* "$subsystem"/nvme*/nvme*n[0-9]*; do
        case ${block##*/} in *c*n*) continue ;; esac
        [ -b "/dev/${block##*/}" ] && devices+="$(cat "$block/nsid")=/dev/${block##*/}"$'\n'
      done
      if [ "$(printf %s "$devices" | wc -l)" -eq "$2" ]; then
        for block in "$subsystem"/nvme*; do
          case ${block##*/} in *n[0-9]*) ;; *) echo "/dev/${block##*/}" ;; esac
        done
        printf %s "$devices"
        return 0
      fi
    done
    sleep 0.1
  done
  echo "subsystem $1 has not $2 namespaces:" >&2
  ls -l /sys/class/nvme-subsystem/*/ >&2
  return 1
}

# nvmet_load: the target's modules and its configfs
nvmet_load() {
  modprobe -a nvmet nvmet-tcp
  mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
}

# nvmet_subsystem NQN: any host may connect
nvmet_subsystem() {
  mkdir "$nvmet/subsystems/$1"
  echo 1 > "$nvmet/subsystems/$1/attr_allow_any_host"
}

# nvmet_namespace NQN NSID DEVICE
nvmet_namespace() {
  local namespace=$nvmet/subsystems/$1/namespaces/$2
  mkdir "$namespace"
  echo -n "$3" > "$namespace/device_path"
  [ -b "$3" ] || echo 1 > "$namespace/buffered_io"
  echo 1 > "$namespace/enable"
}

# nvmet_port ID ADDRESS PORT INLINE_DATA_SIZE NQN...
nvmet_port() {
  local port=$nvmet/ports/$1 nqn
  mkdir "$port"
  echo tcp > "$port/addr_trtype"
  echo ipv4 > "$port/addr_adrfam"
  echo "$2" > "$port/addr_traddr"
  echo "$3" > "$port/addr_trsvcid"
  echo "$4" > "$port/param_inline_data_size"
  shift 4
  for nqn; do ln -s "$nvmet/subsystems/$nqn" "$port/subsystems/$nqn"; done
}

# null_disk NAME MIB BLOCK_SIZE: /dev/NAME, in memory
null_disk() {
  modprobe null_blk nr_devices=0
  local disk=/sys/kernel/config/nullb/$1
  mkdir "$disk"
  echo 1 > "$disk/memory_backed"
  echo "$2" > "$disk/size"
  echo "$3" > "$disk/blocksize"
  echo 1 > "$disk/power"
}

# nvme_by_serial SERIAL: the name of the controller
nvme_by_serial() {
  local controller
  for controller in /sys/class/nvme/nvme*; do
    [ "$(tr -d ' ' < "$controller/serial")" = "$1" ] && echo "${controller##*/}" && return 0
  done
  return 1
}

# nvmet_passthrough NQN CONTROLLER: the whole controller, with its own Identify data
nvmet_passthrough() {
  nvmet_subsystem "$1"
  echo -n "$2" > "$nvmet/subsystems/$1/passthru/device_path"
  echo 1 > "$nvmet/subsystems/$1/passthru/enable"
}

# hash_disk DEVICE OFFSET LENGTH: SHA-256 of any range of a disk's bytes, past the page cache, which
# does not know what nvmet wrote
hash_disk() {
  python3 - "$@" << 'X'
import hashlib, mmap, os, sys
path, offset, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
disk = os.open(path, os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 1 << 20)
digest = hashlib.sha256()
while length:
    start = offset % 4096
    got = os.preadv(disk, [buffer], offset - start)
    take = min(got - start, length)
    if take <= 0:
        sys.exit(f"{path} ends at {offset}")
    digest.update(buffer[start : start + take])
    offset, length = offset + take, length - take
print(digest.hexdigest())
X
}
