//! Clocks that jump while everything runs: ingress and routers see the time through libfaketime.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::fault::Done;
use crate::one_node::away_since;
use crate::unavailable::Unavailable;
use crate::wait::{get, until};
use crate::world::World;

/// Where Debian's package has it. Another place is named by `VOICEBUS_FAKETIME`.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
/// How far the clock goes, in seconds, and whether signatures are then from another time.
const JUMPS: [(&str, bool); 4] = [
    ("+600", true),
    ("-600", true),
    ("+86400", true),
    ("+0", false),
];
const KEY: [u8; 32] = [b'k'; 32];
/// Events at each time.
const EVENTS_EACH: u64 = 60;
/// How long they may take.
const FLOWS_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take until the alarm is raised.
const ALARM_WITHIN: Duration = Duration::from_secs(30);

pub async fn jumps(world: &mut World) -> anyhow::Result<Done> {
    let library = std::env::var_os("VOICEBUS_FAKETIME").map_or(LIBRARY.into(), PathBuf::from);
    if !library.exists() {
        let text = "libfaketime is not installed (Debian: apt-get install libfaketime)";
        return Err(Unavailable(text.to_owned()).into());
    }
    let clock = world.place.folder.join("clock");
    set(&clock, "+0")?;
    let env = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        (
            "VOICEBUS_OPENAI_WEBHOOK_SECRET",
            format!("whsec_{}", STANDARD.encode(KEY)),
        ),
    ];
    let away = restarted(world, &env).await?;
    for (jump, is_another_time) in JUMPS {
        let before = stale(world.ingress.listen).await?;
        set(&clock, jump)?;
        until(
            "the ingress to see its new time",
            ALARM_WITHIN,
            async || {
                let refused = is_refused(world.ingress.listen).await?;
                ensure!(refused == is_another_time, "refused: {refused} at {jump}");
                Ok(())
            },
        )
        .await?;
        if is_another_time {
            let now = stale(world.ingress.listen).await?;
            ensure!(now > before, "no alarm at {jump}");
        }
        world.goes_on(EVENTS_EACH, FLOWS_WITHIN).await?;
    }
    world.all_live()?;
    let again = restarted(world, &[]).await?;
    Ok(Done {
        away: away.away.max(again.away),
    })
}

/// Starts routers and ingress again with these variables.
async fn restarted(world: &mut World, env: &[(&str, String)]) -> anyhow::Result<Done> {
    for router in &mut world.routers {
        router.set_env(env);
        router.stop().await?;
        router.start().await?;
    }
    let began = Instant::now();
    world.ingress.set_env(env);
    world.ingress.stop().await?;
    world.ingress.start().await?;
    Ok(away_since(began))
}

/// Never half written: the library reads it each time somebody asks for the time.
fn set(clock: &Path, offset: &str) -> anyhow::Result<()> {
    let beside = clock.with_extension("new");
    std::fs::write(&beside, offset)?;
    std::fs::rename(&beside, clock)?;
    Ok(())
}

/// Whether a webhook that was signed just now is refused for its signature. It is always the same,
/// and of no type that is known: once it is taken, it is a dead letter, and no event.
async fn is_refused(ingress: SocketAddr) -> anyhow::Result<bool> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let body = "{}";
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY)?;
    mac.update(format!("msg_1.{now}.{body}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let request = format!(
        "POST /webhook/openai HTTP/1.1\r\nHost: {ingress}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nwebhook-id: msg_1\r\n\
         webhook-timestamp: {now}\r\nwebhook-signature: v1,{signature}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(ingress).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    match answer.split(' ').nth(1) {
        Some("401") => Ok(true),
        Some("200") => Ok(false),
        other => anyhow::bail!("a webhook was answered {other:?}"),
    }
}

/// How often the alarm was raised.
async fn stale(ingress: SocketAddr) -> anyhow::Result<f64> {
    let metrics = get(ingress, "/metrics").await?;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("voicebus_ingress_signatures_stale_total "));
    Ok(line.context("there is no alarm")?.parse()?)
}
