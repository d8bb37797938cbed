//! The plain page at `/`: what the server is and does, for a person with a browser. Reads nothing, escapes everything.

use std::fmt::Write;

use crate::console::{CacheHoldings, CacheStats, Status};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}\
                     table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0}\
                     @media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8cf}}";

/// The page.
pub(crate) fn status(status: &Status, caches: &CacheStats) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = write!(rows, "<tr><th>{}<td>{}</tr>", escape(name), escape(value));
    };
    row("State", &status.state);
    row("Version", &status.version);
    row("Up", &format!("{} s", status.uptime_s));
    row("Document revision", &status.document_revision.to_string());
    row("Requests", &format!("{}, {} of them from the render cache", status.requests, status.hits));
    row("Renders", &format!("{}, by {} engines", status.renders, status.engines));
    row("Results (render cache)", &holdings(&caches.results));
    row("Originals (asset cache)", &holdings(&caches.originals));
    for service in &status.services {
        row(
            &format!("Service {}", service.name),
            &format!("{} {}", service.mounts.join(" "), service.summary),
        );
    }
    let node = escape(&status.node);
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Tutti: {node}</title><style>{STYLE}</style><h1>Tutti: {node}</h1><table>{rows}</table>\
         <p><a href=/metrics>metrics</a> <a href=/api/v1/status>status</a> <a href=/api/v1/doctor>doctor</a> \
         <a href=/api/v1/ports>ports</a> <a href=/api/v1/openapi.json>API</a>\n"
    )
}

fn holdings(cache: &CacheHoldings) -> String {
    format!(
        "{} in memory ({} bytes), {} on disk ({} of {} bytes){}",
        cache.resident,
        cache.resident_bytes,
        cache.kept,
        cache.kept_bytes,
        cache.disk_limit_bytes,
        if cache.disk_ok { "" } else { ", disk not in use" }
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_becomes_markup() {
        let evil = "<script>alert('x')</script>\"&".to_owned();
        let shown = Status { node: evil.clone(), state: evil.clone(), version: evil, ..Status::default() };
        let page = status(&shown, &CacheStats::default());
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;alert(&#39;x&#39;)").count(), 4);
    }
}
