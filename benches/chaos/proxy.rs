//! A TCP proxy that can be told to fail, in front of a server that cannot.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Passes everything on.
    Pass,
    /// Closes those there are, and refuses new ones, as when the server has crashed.
    Cut,
    /// Takes new ones and says nothing, nor on those there are: as when the server is cut off.
    BlackHole,
    /// Passes everything on, later by this much.
    Delay(Duration),
}

/// A running proxy; it ends with this value.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    fault: watch::Sender<Fault>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy on a free port of the loopback address in front of `target`, which passes at first.
    pub(crate) async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (fault, faults) = watch::channel(Fault::Pass);
        let task = tokio::spawn(serve(listener, address, target, faults));
        Ok(Self { address, fault, task })
    }

    /// Changes what it does, for open connections too.
    pub(crate) fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    target: SocketAddr,
    mut fault: watch::Receiver<Fault>,
) {
    let mut listener = Some(listener);
    let mut open = JoinSet::new();
    loop {
        // Only without a listener is a connection refused.
        if *fault.borrow_and_update() == Fault::Cut {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = fault.changed() => if changed.is_err() { return },
            Some(_) = open.join_next(), if !open.is_empty() => {}
            Ok((stream, _)) = accepted => {
                open.spawn(carry(stream, target, fault.clone()));
            }
        }
    }
}

async fn carry(client: TcpStream, target: SocketAddr, mut fault: watch::Receiver<Fault>) {
    if fault.wait_for(|fault| *fault != Fault::BlackHole).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(pump(from_client, to_server, fault.clone()), pump(from_server, to_client, fault));
}

/// Carries bytes one way until the sender has no more, or the proxy is cut.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut fault: watch::Receiver<Fault>) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let now = *fault.borrow_and_update();
        let count = match now {
            Fault::Cut => return,
            Fault::BlackHole => match fault.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            },
            Fault::Pass | Fault::Delay(_) => tokio::select! {
                changed = fault.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                read = from.read(&mut bytes) => read.unwrap_or(0),
            },
        };
        if count == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if let Fault::Delay(time) = now {
            tokio::time::sleep(time).await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
