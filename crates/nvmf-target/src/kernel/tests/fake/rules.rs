//! What the kernel lets be written, item by item.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use rustix::io::Errno;

use super::{Done, Files, Port, is_on};

pub(super) fn may_write_namespace(namespace: &Files, name: &str, value: &str) -> Done {
    match name {
        "device_path" | "device_uuid" | "device_nguid" if is_on(namespace) => Err(Errno::BUSY),
        "buffered_io" | "resv_enable" if is_on(namespace) => Err(Errno::INVAL),
        "device_uuid" | "device_nguid" if value.len() != 36 => Err(Errno::INVAL),
        "ana_grpid" => number(value, 1, 128).map(drop),
        "enable" if value == "1" && !is_on(namespace) => match namespace["device_path"].as_str() {
            "(null)" => Err(Errno::INVAL),
            path if Path::new(path).exists() => Ok(()),
            _ => Err(Errno::NOENT),
        },
        _ => Ok(()),
    }
}

pub(super) fn may_write_port(port: &Port, name: &str, value: &str) -> Done {
    if !port.subsystems.is_empty() {
        return Err(Errno::ACCESS);
    }
    let right = match name {
        "addr_trtype" => ["tcp", "rdma", "fc", "loop"].contains(&value),
        "addr_adrfam" => ["ipv4", "ipv6", "ib", "fc", "loop"].contains(&value),
        "addr_treq" => ["not specified", "required", "not required"].contains(&value),
        // A function of the transport, which comes first.
        "addr_tsas" => port.files["addr_trtype"] == "tcp" && ["none", "tls1.3"].contains(&value),
        "param_inline_data_size" | "param_max_queue_size" => value.parse::<i32>().is_ok(),
        _ => true,
    };
    if right { Ok(()) } else { Err(Errno::INVAL) }
}

pub(super) fn may_write_referral(referral: &Files, name: &str, value: &str) -> Done {
    match name {
        "enable" => Ok(()),
        _ if is_on(referral) => Err(Errno::ACCESS),
        "addr_portid" => number(value, 0, 65535).map(drop),
        _ => Ok(()),
    }
}

pub(super) fn listen(port: &Port) -> Option<SocketAddr> {
    let ip: IpAddr = port.files["addr_traddr"].parse().ok()?;
    let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    (port.files["addr_adrfam"] == family).then_some(())?;
    Some(SocketAddr::new(ip, port.files["addr_trsvcid"].parse().ok()?))
}

pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

pub(super) fn number(text: &str, least: u32, most: u32) -> Done<u32> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    number.filter(|n| (least..=most).contains(n)).ok_or(Errno::INVAL)
}
