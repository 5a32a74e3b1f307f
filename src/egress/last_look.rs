//! The last look before a dial leaves: with the connection made, and not one byte written to it.
//!
//! A worker can stand still between any two instructions. Whatever it checked before that is stale
//! when it goes on, so the deadline and the record are checked here, as late as can be. What is
//! left is the time from the answer of this look to the write that follows it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{BoxError, Layer, Service};

/// What is looked at: good, or a sentence that says why nothing may leave.
pub(super) type LastLook = Arc<
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync + 'static,
>;

/// Puts a last look behind the making of each connection.
#[derive(Clone)]
pub(super) struct LastLookLayer(pub LastLook);

impl<S> Layer<S> for LastLookLayer {
    type Service = Looking<S>;

    fn layer(&self, inner: S) -> Looking<S> {
        Looking {
            inner,
            look: Arc::clone(&self.0),
        }
    }
}

/// Makes connections, and gives them away only after the last look.
#[derive(Clone)]
pub(super) struct Looking<S> {
    inner: S,
    look: LastLook,
}

impl<S, R> Service<R> for Looking<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.inner.call(request);
        let look = Arc::clone(&self.look);
        Box::pin(async move {
            let connection = connecting.await.map_err(Into::into)?;
            look().await.map_err(BoxError::from)?;
            Ok(connection)
        })
    }
}
