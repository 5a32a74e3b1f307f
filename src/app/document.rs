//! The OpenAPI documents of the doors that roles have.

use utoipa::openapi::OpenApi;

use crate::http::{document, operations};
use crate::ingress;

/// What an ingress serves.
#[must_use]
pub fn of_ingress() -> OpenApi {
    let mut all = ingress::described();
    all.merge(operations::described());
    document::complete(all)
}

/// What a role serves that has no doors of its own.
#[must_use]
pub fn of_operations() -> OpenApi {
    let mut all = operations::described();
    all.merge(operations::described_status());
    document::complete(all)
}
