//! `voicebus ingress`, `router`, `egress`: one role each, as often as wanted.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::Config;
use crate::http::serve::Listener;

/// An ingress.
pub(super) async fn ingress(config: Arc<Config>, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = Listener::bind(config.listen).await?;
    let listener = listener.with_tls(config.tls.clone())?;
    let mut app = App::new(Arc::clone(&config), stop);
    app.add_ingress(&config.nats("ingress"), listener).await?;
    app.run().await
}

/// A router.
pub(super) async fn router(config: Arc<Config>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut app = App::new(Arc::clone(&config), stop);
    add_operations(&mut app, &config).await?;
    app.add_router(&config.nats("router")).await?;
    app.run().await
}

/// An egress.
pub(super) async fn egress(config: Arc<Config>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut app = App::new(Arc::clone(&config), stop);
    add_operations(&mut app, &config).await?;
    app.add_egress(&config.nats("egress")).await?;
    app.run().await
}

/// A role without doors listens only when told where: several of them run on one machine.
async fn add_operations(app: &mut App, config: &Config) -> anyhow::Result<()> {
    if config.listen_is_given {
        let listener = Listener::bind(config.listen).await?;
        app.add_operations(listener.with_tls(config.tls.clone())?)?;
    }
    Ok(())
}
