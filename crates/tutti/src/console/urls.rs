//! Image URLs for people and templates, signed where the tenant has a key.

use std::net::SocketAddr;

use tutti_admin::console::{UrlAnswer, UrlRequest};
use tutti_base::Problem;
use tutti_flow::Tenants;
use tutti_service_image::{ImageUrl, SourceEncoding};

use super::routing;
use crate::build::House;

/// Makes the URL, and plans it, so that what does not work is said now.
pub(crate) fn make(
    house: &House,
    first: Option<SocketAddr>,
    request: &UrlRequest,
) -> Result<UrlAnswer, Problem> {
    tutti_service_image::canonical_source(&request.source)?;
    let url = ImageUrl {
        mount: "/image/",
        options: &request.options,
        source: &request.source,
        extension: request.format.as_deref(),
        encoding: SourceEncoding::Plain,
    };
    let tenant = house.state.tenants.get(&Default::default());
    let path = match tenant.keys.first() {
        Some(pair) => url.signed(pair, tenant.signature_len),
        None => url.unsigned(),
    };
    routing::plan(house, &path)?;
    let server = first.map(|address| format!("http://{address}")).unwrap_or_default();
    Ok(UrlAnswer { url: format!("{server}{path}"), signed: !tenant.keys.is_empty() })
}
