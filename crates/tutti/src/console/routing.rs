//! From a URL as people paste it to a plan, without a request.

use std::sync::Arc;

use tutti_base::http::Method;
use tutti_base::{Kind, Problem};
use tutti_flow::Planned;
use tutti_front::Router;
use tutti_service::{Fields, Head};

use crate::build::House;

/// What clients may send that changes a plan: every combination that a purge of a URL has to think of.
pub(crate) const VARIANTS: [&[(&str, &str)]; 2] = [&[], &[("accept", "image/webp,*/*")]];

/// The service and the plan of `url`, asked for without header fields.
pub(crate) fn plan(house: &House, url: &str) -> Result<(String, Arc<Planned>), Problem> {
    plan_with(house, url, &[])
}

/// The service and the plan of `url`, asked for with these fields.
pub(crate) fn plan_with(
    house: &House,
    url: &str,
    fields: &[(&str, &str)],
) -> Result<(String, Arc<Planned>), Problem> {
    let (host, target) = split(url);
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let router = Router::new(house.registry(), &house.cluster.front.mounts)
        .map_err(|error| Problem::new(Kind::Internal, "the mounts cannot be used").because(error))?;
    let Some((service, below)) = router.service(&host, path) else {
        return Err(Problem::new(Kind::NotFound, format!("no service answers `{path}` on host `{host}`")));
    };
    let fields: &dyn Fields = &fields;
    let head = Head { method: Method::Get, host: &host, path: below, query, fields };
    let name = house.registry().get(service).describe().name;
    house.flow.plan(service, &head).map(|planned| (name.to_owned(), planned))
}

/// Host and target of a whole URL; a path is on no particular host.
fn split(url: &str) -> (String, &str) {
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return ("localhost".into(), url);
    };
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, target) = rest.split_at(at);
    (host.to_ascii_lowercase(), if target.is_empty() { "/" } else { target })
}
