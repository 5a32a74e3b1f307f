//! A TCP proxy on loopback that can fall silent, as a network does: nothing passes, nothing is
//! closed, and what was sent arrives when the silence is over.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Forward,
    /// A black hole: connections stay, and new ones come about, but nothing passes.
    Silent,
    /// Connections are closed at once.
    Cut,
    /// What those say who connect does not pass; what they are told does.
    Mute,
    /// What those are told who connect does not pass; what they say does.
    Deaf,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From those who connect.
    Out,
    /// To them.
    Back,
}

impl Mode {
    fn holds(self, way: Way) -> bool {
        match self {
            Self::Forward | Self::Cut => false,
            Self::Silent => true,
            Self::Mute => way == Way::Out,
            Self::Deaf => way == Way::Back,
        }
    }
}

pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((upstream.ip(), 0)).await?;
        let address = listener.local_addr()?;
        let (mode, watched) = watch::channel(Mode::Forward);
        let task = tokio::spawn(accept(listener, upstream, watched));
        Ok(Self {
            address,
            mode,
            task,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, mode: watch::Receiver<Mode>) {
    // Ends with this task.
    let mut connections = JoinSet::new();
    while let Ok((inside, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let mut mode = mode.clone();
        connections.spawn(async move {
            // Whoever is only mute or deaf can still connect.
            let connects = mode.wait_for(|mode| *mode != Mode::Silent).await;
            if connects.is_ok_and(|mode| *mode == Mode::Cut) {
                return;
            }
            // Whoever connects while nobody is behind the proxy is turned away.
            let Ok(outside) = TcpStream::connect(upstream).await else {
                return;
            };
            inside.set_nodelay(true).ok();
            outside.set_nodelay(true).ok();
            let (inside_reads, inside_writes) = inside.into_split();
            let (outside_reads, outside_writes) = outside.into_split();
            let mut cut = mode.clone();
            tokio::select! {
                () = pump(inside_reads, outside_writes, mode.clone(), Way::Out) => {}
                () = pump(outside_reads, inside_writes, mode, Way::Back) => {}
                _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
            }
        });
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    way: Way,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(length) if length > 0 => {
                if !may_pass(&mut mode, way).await || to.write_all(&buffer[..length]).await.is_err()
                {
                    return;
                }
            }
            _ => {
                // The end of a connection does not pass either.
                may_pass(&mut mode, way).await;
                return;
            }
        }
    }
}

/// Waits while silence is kept.
async fn may_pass(mode: &mut watch::Receiver<Mode>, way: Way) -> bool {
    let spoken = mode.wait_for(|mode| !mode.holds(way)).await;
    spoken.is_ok_and(|mode| *mode != Mode::Cut)
}
