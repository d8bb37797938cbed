//! A plan with its keys: what the journey carries instead of the request's head.

use tutti_base::{RequestKey, Source, SourceKey, TenantId};
use tutti_service::Plan;
use tutti_service::registry::ServiceId;

/// A plan, whose it is, and the keys that look-up, purge and single flight use.
#[derive(Debug)]
pub struct Planned {
    /// Which service made it.
    pub service: ServiceId,
    /// For whom.
    pub tenant: TenantId,
    /// The plan.
    pub plan: Plan,
    /// Names the answer without I/O; none when it must not be stored or shared.
    pub key: Option<RequestKey>,
    /// Every original that it needs.
    pub sources: Vec<(SourceKey, Source)>,
}
