//! Purges as people ask for them: by URL, source, tag, or everything.

use tutti_admin::console::{PurgeReport, PurgeRequest};
use tutti_base::{Kind, Problem, TenantId};
use tutti_flow::What;

use super::routing;
use crate::build::House;

/// Does what was asked, and says in a line what it was.
pub(crate) async fn purge(house: &House, request: PurgeRequest) -> Result<PurgeReport, Problem> {
    let (what, text) = understand(house, request)?;
    let done = house.flow.purge(what).await?;
    let (sequence, reached, not_reached) = (done.number, done.reached, done.not_reached);
    tracing::info!(sequence, text, ?reached, ?not_reached, "purged");
    Ok(PurgeReport { sequence, text, reached, not_reached })
}

fn understand(house: &House, request: PurgeRequest) -> Result<(What, String), Problem> {
    Ok(match request {
        PurgeRequest::Url(url) => {
            let plans = routing::VARIANTS.iter().map(|fields| routing::plan_with(house, &url, fields));
            let plans = plans.collect::<Result<Vec<_>, _>>()?;
            let keys: Vec<_> = plans.iter().filter_map(|(_, planned)| planned.key).collect();
            if keys.is_empty() {
                return Err(Problem::new(
                    Kind::Unprocessable,
                    format!("`{url}` is never stored: nothing to purge"),
                ));
            }
            (What::Requests(keys), format!("{url}, in all its variants"))
        }
        PurgeRequest::Source(url) => {
            let source = tutti_service_image::canonical_source(&url)?;
            (What::Source(source.key(&TenantId::default())), format!("{source} and everything made of it"))
        }
        PurgeRequest::Tag(tag) => (What::Tag(tag.clone()), format!("everything tagged `{tag}`")),
        PurgeRequest::All(true) => (What::All, "everything".to_owned()),
        PurgeRequest::All(false) => {
            return Err(Problem::new(Kind::BadRequest, "`all` must be true; leave it away otherwise"));
        }
    })
}
