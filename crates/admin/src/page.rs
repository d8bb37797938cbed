//! The plain page at `/`: how the cluster is and what it does, for a person with a browser. Reads nothing, escapes
//! everything, needs no script and nothing from elsewhere.

mod parts;
mod words;

use crate::console::{CacheStats, Event, Status};

use tutti_base::html::escape;

/// Events that the page shows.
pub(crate) const EVENTS_SHOWN: usize = 12;
/// What the page may do: its own style, its one script by its hash, and asking this server.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     script-src 'sha256-Lli4oVOk98bHiDWc7WTAV2SsIureDK8rBNyynIAyIpE='; connect-src 'self'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const STYLE: &str = include_str!("page/style.css");
/// Asks for the page again every two seconds and puts what changed in its place.
const SCRIPT: &str = include_str!("page/live.js");

/// The page.
pub(crate) fn status(status: &Status, caches: &CacheStats, events: &[Event]) -> String {
    let node = escape(&status.node);
    let head = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\"><title>Tutti: {node}</title>\
         <noscript><meta http-equiv=refresh content=2></noscript><style>{STYLE}</style>"
    );
    let body = [
        parts::heading(status),
        parts::alerts(status),
        parts::figures(status),
        parts::nodes(status),
        parts::choices(status),
        parts::caches(caches),
        parts::events(events),
        parts::services(status),
    ];
    let links = "<footer><a href=/metrics>metrics</a> <a href=/api/v1/status>status</a> \
         <a href=/api/v1/events>events</a> <a href=/api/v1/doctor>doctor</a> <a href=/api/v1/ports>ports</a> \
         <a href=/api/v1/openapi.json>API</a></footer>";
    let live = "<p id=lost role=status hidden>This page has not been refreshed for a while: the server does not answer.</p>";
    format!("{head}{live}<main>{}</main>{links}<script>{SCRIPT}</script>\n", body.concat())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use sha2::Digest;

    use super::*;
    use crate::console::{Choice, ClusterAddress, NodeStatus, ServiceStatus};

    #[test]
    fn nothing_that_is_shown_becomes_markup() {
        let evil = || "<script>alert('x')</script>\"&".to_owned();
        let shown = Status {
            node: evil(),
            state: evil(),
            version: evil(),
            data: evil(),
            leader: Some(evil()),
            topology: evil(),
            quorum: evil(),
            cluster_address: Some(ClusterAddress { address: evil(), holder: Some(evil()) }),
            alerts: vec![evil()],
            services: vec![ServiceStatus { name: evil(), summary: evil(), mounts: vec![evil()] }],
            nodes: vec![NodeStatus {
                name: evil(),
                roles: vec![evil()],
                version: evil(),
                voter: evil(),
                ..NodeStatus::default()
            }],
            choices: vec![Choice { node: evil(), reason: evil(), count: 1 }],
            ..Status::default()
        };
        let events = [Event { node: evil(), what: evil(), why: evil(), ..Event::default() }];
        let page = status(&shown, &CacheStats::default(), &events);
        assert_eq!(page.matches("<script").count(), 1, "our own alone: {page}");
        assert!(page.matches("&lt;script&gt;alert(&#39;x&#39;)").count() > 12, "{page}");
    }

    #[test]
    fn the_policy_allows_our_script_and_no_other() {
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(SCRIPT));
        assert!(POLICY.contains(&format!("'sha256-{hash}'")), "the script's hash is {hash}");
    }

    #[test]
    fn a_cluster_of_one_is_a_page_as_well() {
        let page = status(&Status::default(), &CacheStats::default(), &[]);
        assert!(page.contains("Results (render cache)") && page.contains("<noscript>"), "{page}");
        assert!(!page.contains("<h2>Choices"), "what there is none of has no heading");
    }
}
