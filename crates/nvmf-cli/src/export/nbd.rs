//! `nvmf export nbd`

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Context;
use nvmf_engine::SocketFile;
use nvmf_host::{Event, Namespace};
use nvmf_nbd::{Export, Listener, Options, Server, uri};

use super::args::{Allowed, Nbd, Place};
use crate::failure::Usage;
use crate::output;
use crate::paths::Paths;
use crate::signals;
use crate::target::split_authority;

/// The port of NBD.
const PORT: u16 = 10809;

pub(crate) fn run(args: &Nbd) -> anyhow::Result<()> {
    let paths = Paths::new(&args.connect, &args.targets, args.namespace_id, &args.paths)?
        .engine(args.engine.engine)
        .queues(args.queues);
    let (listener, address) = listen(&args.place, args.allow)?;
    let namespace = paths.connect()?;
    let what = paths.name();
    let export = Export::new(args.name.clone(), namespace.clone())?
        .with_description(&what)
        .with_read_only(args.read_only);
    let mut said = format!("Serving {what} over NBD: {} bytes", namespace.size());
    if export.is_read_only() {
        said.push_str(", read-only");
    }
    let mut options = Options::default();
    options.connections = args.connections.into();
    options.requests = args.requests.into();
    let server = Server::new(listener, export, options)?;
    let handle = server.handle();
    signals::heed(move || handle.stop(), None)?;
    let ending = tell_of_paths(&namespace)?;
    output::print(format_args!("{said}\n{}", address.announcement(args.name.as_str())))?;
    let served = server.run();
    ending.store(true, Ordering::Relaxed);
    namespace.close();
    Ok(served?)
}

/// Logs what happens to the paths, on a thread that ends with the namespace. That they are closed in
/// the end is no news: it is to be told before.
fn tell_of_paths(namespace: &Namespace) -> anyhow::Result<Arc<AtomicBool>> {
    let ending = Arc::new(AtomicBool::new(false));
    let (events, ended) = (namespace.events(), Arc::clone(&ending));
    let tell = move || {
        for event in events.iter().take_while(|_| !ended.load(Ordering::Relaxed)) {
            match event {
                Event::Connected { .. } | Event::Back { .. } => tracing::info!("{event}"),
                _ => tracing::warn!("{event}"),
            }
        }
    };
    thread::Builder::new()
        .name("nvmf-events".to_owned())
        .spawn(tell)
        .context("cannot start a thread")?;
    Ok(ending)
}

/// Where it is served, as clients are told.
enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

fn listen(place: &Place, allow: Option<Allowed>) -> anyhow::Result<(Listener, Address)> {
    if let Some(socket) = &place.socket {
        let (listener, file) = SocketFile::listen(socket)?;
        let path = std::path::absolute(socket).context("there is no current directory")?;
        return Ok((Listener::from(listener).keep(file), Address::Unix(path)));
    }
    let text = place.listen.as_deref().unwrap_or_default();
    let addresses = addresses(text)?;
    let beyond = addresses.iter().find(|address| !address.ip().is_loopback());
    if let (None, Some(address)) = (allow, beyond) {
        return Err(Usage::new(format!(
            "{address} is reached from other machines, and whoever reaches it may use the \
             namespace: if that is meant, say --allow any"
        ))
        .into());
    }
    let cannot = || format!("cannot listen on {text}");
    let listener = TcpListener::bind(&addresses[..]).with_context(cannot)?;
    let address = listener.local_addr().with_context(cannot)?;
    Ok((listener.into(), Address::Tcp(address)))
}

/// What `ADDR[:PORT]` stands for.
fn addresses(text: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let wrong = |why: String| {
        Usage::new(format!(
            "cannot listen on `{text}`: {why}; write ADDR, ADDR:PORT or [ADDR]:PORT"
        ))
    };
    let (host, port) = split_authority(text).map_err(|error| wrong(error.to_string()))?;
    let port = match port.map(str::parse) {
        None => PORT,
        Some(Ok(port)) => port,
        Some(Err(_)) => return Err(wrong("a port is 0 to 65535".to_owned()).into()),
    };
    let found = (host, port).to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    Ok(found.collect())
}

impl Address {
    /// How to reach it.
    fn announcement(&self, name: &str) -> String {
        let uri = match self {
            Self::Unix(path) => uri::unix(path, name),
            Self::Tcp(address) => uri::tcp(output::reachable(*address), name),
        };
        let mut text = format!("Ready: {uri}\n");
        // Writing to a string does not fail.
        let _ = writeln!(text, "  nbdinfo '{uri}'");
        let _ = writeln!(text, "  qemu-img convert -p -O qcow2 '{uri}' copy.qcow2");
        let at = match self {
            Self::Unix(path) => format!("-unix {}", path.display()),
            Self::Tcp(address) => {
                let address = output::reachable(*address);
                format!("{} {}", address.ip(), address.port())
            }
        };
        let name = if name.is_empty() { String::new() } else { format!(" -N '{name}'") };
        let _ = writeln!(text, "  nbd-client {at} /dev/nbd0{name}");
        if let Self::Tcp(address) = self
            && address.ip().is_unspecified()
        {
            let here = output::reachable(*address).ip();
            let _ = writeln!(text, "  (on other machines, with this machine's address for {here})");
        }
        text.push_str("Ctrl-C ends it.");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_port_of_nbd_unless_it_has_one() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:10809"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:7", "[::1]:7"),
            ("[::1]", "[::1]:10809"),
        ] {
            assert_eq!(addresses(text).unwrap(), [address.parse().unwrap()]);
        }
        for text in ["", "::1", "127.0.0.1:", "127.0.0.1:65536", ":10809", "[x]:1"] {
            assert!(addresses(text).unwrap_err().is::<Usage>(), "{text}");
        }
    }

    #[test]
    fn what_others_reach_has_to_be_allowed() {
        let place = |listen: &str| Place { socket: None, listen: Some(listen.to_owned()) };
        let refused = listen(&place("0.0.0.0:0"), None).err().unwrap();
        assert!(refused.is::<Usage>() && refused.to_string().contains("--allow any"));
        assert!(listen(&place("0.0.0.0:0"), Some(Allowed::Any)).is_ok());
        assert!(listen(&place("127.0.0.1:0"), None).is_ok());
    }

    #[test]
    fn the_announcement_has_lines_to_paste() {
        let text = Address::Tcp("0.0.0.0:7".parse().unwrap()).announcement("a disk");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "Ready: nbd://127.0.0.1:7/a%20disk",
                "  nbdinfo 'nbd://127.0.0.1:7/a%20disk'",
                "  qemu-img convert -p -O qcow2 'nbd://127.0.0.1:7/a%20disk' copy.qcow2",
                "  nbd-client 127.0.0.1 7 /dev/nbd0 -N 'a disk'",
                "  (on other machines, with this machine's address for 127.0.0.1)",
                "Ctrl-C ends it.",
            ]
        );
    }
}
