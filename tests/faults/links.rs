//! The network between the nodes of a cluster: a link for each pair and each way, which can be cut.

use std::net::SocketAddr;

use crate::proxy::{Mode, Proxy};

/// What becomes of a node's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutOff {
    /// It hears nothing and is not heard.
    Wholly,
    /// It hears the others, who do not hear it.
    Mute,
    /// It is heard by the others, and does not hear them.
    Deaf,
}

struct Link {
    from: usize,
    to: usize,
    proxy: Proxy,
}

pub struct Links(Vec<Link>);

impl Links {
    /// A link from each node to each other.
    pub async fn start(addresses: &[SocketAddr]) -> anyhow::Result<Self> {
        let mut links = Vec::new();
        for from in 0..addresses.len() {
            for (to, address) in addresses.iter().enumerate() {
                if from != to {
                    let proxy = Proxy::start(*address).await?;
                    links.push(Link { from, to, proxy });
                }
            }
        }
        Ok(Self(links))
    }

    /// Where a node finds the others.
    pub fn from(&self, node: usize) -> impl Iterator<Item = SocketAddr> {
        let of_node = self.0.iter().filter(move |link| link.from == node);
        of_node.map(|link| link.proxy.address())
    }

    /// Cuts a node off from its peers. No connection is closed, and what was sent arrives when it is
    /// healed.
    pub fn cut_off(&self, node: usize, how: CutOff) {
        for link in &self.0 {
            let mode = match how {
                CutOff::Wholly => Mode::Silent,
                CutOff::Mute if link.from == node => Mode::Mute,
                CutOff::Deaf if link.to == node => Mode::Mute,
                CutOff::Mute | CutOff::Deaf => Mode::Deaf,
            };
            if link.from == node || link.to == node {
                link.proxy.set(mode);
            }
        }
    }

    pub fn heal(&self) {
        for link in &self.0 {
            link.proxy.set(Mode::Forward);
        }
    }
}
