//! The OpenAPI description: paths from the table of routes, schemas by hand. A test holds them to what the types write.

mod cluster;

use serde_json::{Map, Value, json};

use crate::api::{BYTES, Route, routes};

/// The description, as OpenAPI 3.1.
pub(crate) fn description() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let at = paths.entry(route.template()).or_insert_with(|| json!({}));
        at[route.method.to_lowercase()] = operation(&route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tutti administration",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Reading over TCP, reading and writing over the socket `admin.sock` in the data directory."
        },
        "paths": paths,
        "components": { "schemas": schemas() }
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    let template = route.template();
    for name in template.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name) {
        let schema = match name {
            "name" | "folder" => json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$" }),
            _ => text(),
        };
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    for (name, meaning) in route.query {
        let required = *name == "url";
        let schema = json!({ "type": "string" });
        let query = json!({ "name": name, "in": "query", "required": required, "description": meaning, "schema": schema });
        parameters.push(query);
    }
    let answer = match route.answer {
        "" => json!({ "description": "Text" }),
        name => {
            json!({ "description": name, "content": { "application/json": { "schema": reference(name) } } })
        }
    };
    let problem = json!({
        "description": "A problem (RFC 9457)",
        "content": { "application/problem+json": { "schema": reference("Problem") } }
    });
    let mut operation = json!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": { "200": answer, "default": problem }
    });
    match route.body {
        Some(BYTES) => {
            let bytes =
                json!({ "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } });
            operation["requestBody"] = json!({ "required": true, "content": bytes });
        }
        Some(name) => {
            let content = json!({ "application/json": { "schema": reference(name) } });
            operation["requestBody"] = json!({ "required": true, "content": content });
        }
        None => {}
    }
    operation
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn list(item: &Value) -> Value {
    json!({ "type": "array", "items": item })
}

fn schemas() -> Value {
    let mut all = Map::new();
    for (name, schema) in document_schemas().into_iter().chain(console_schemas()).chain(cluster::schemas()) {
        all.insert(name.into(), schema);
    }
    Value::Object(all)
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn number() -> Value {
    json!({ "type": "integer" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn optional_text() -> Value {
    json!({ "type": ["string", "null"] })
}

fn call(required: &[&str], mut properties: Value) -> Value {
    properties["why"] = text();
    properties["if_revision"] = json!({ "type": ["integer", "null"] });
    properties["dry_run"] = flag();
    properties["accept_restart"] = flag();
    object(required, properties)
}

fn document_schemas() -> Vec<(&'static str, Value)> {
    let difference = json!({
        "path": text(), "what": { "enum": ["added", "changed", "removed"] },
        "old": optional_text(), "new": optional_text()
    });
    let plan = json!({
        "revision": number(), "applied": flag(), "changes": reference("Differences"),
        "consequences": list(&json!({ "type": "object" }))
    });
    let line = json!({
        "revision": number(), "who": text(), "why": text(), "when": number(),
        "changes": { "type": ["integer", "null"] }
    });
    let secret = json!({ "name": text(), "created": number(), "changed": number() });
    let problem = json!({
        "type": text(), "title": text(), "status": number(), "detail": text(), "subject": optional_text()
    });
    vec![
        ("Any", json!({})),
        ("Done", object(&["done"], json!({ "done": flag() }))),
        ("Problem", object(&["type", "title", "status", "detail"], problem)),
        (
            "Document",
            object(
                &["revision", "text", "value"],
                json!({ "revision": number(), "text": text(), "value": {} }),
            ),
        ),
        ("SetCall", call(&["path", "value"], json!({ "path": text(), "value": text() }))),
        ("UnsetCall", call(&["path"], json!({ "path": text() }))),
        ("ApplyCall", call(&["text"], json!({ "text": text(), "replace": flag() }))),
        ("RollbackCall", call(&["to"], json!({ "to": number() }))),
        ("Difference", object(&["path", "what", "old", "new"], difference)),
        ("Differences", list(&reference("Difference"))),
        ("Plan", object(&["revision", "applied", "changes", "consequences"], plan)),
        ("HistoryLine", object(&["revision", "who", "why", "when", "changes"], line)),
        ("History", list(&reference("HistoryLine"))),
        ("SecretInfo", object(&["name", "created", "changed"], secret)),
        ("Secrets", list(&reference("SecretInfo"))),
    ]
}

fn console_schemas() -> Vec<(&'static str, Value)> {
    let status = json!({
        "node": text(), "version": text(), "state": { "enum": ["ready", "starting", "draining"] },
        "started": number(), "uptime_s": number(), "pid": number(), "data": text(),
        "document_revision": number(), "services": list(&reference("ServiceStatus")), "requests": number(),
        "hits": number(), "renders": number(), "engines": number(), "more": { "type": "object" },
        "nodes": list(&reference("NodeStatus")), "leader": optional_text(), "topology": text(), "quorum": text(),
        "cluster_address": { "anyOf": [reference("ClusterAddress"), { "type": "null" }] },
        "alerts": list(&text()), "revision": number(), "choices": list(&reference("Choice"))
    });
    let holdings = json!({
        "resident": number(), "resident_bytes": number(), "kept": number(), "kept_bytes": number(),
        "disk_limit_bytes": number(), "disk_ok": flag()
    });
    let purge = json!({
        "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
        "properties": { "url": text(), "source": text(), "tag": text(), "all": { "const": true } }
    });
    let reached = json!({
        "sequence": number(), "text": text(), "reached": list(&text()), "not_reached": list(&text())
    });
    let explanation = json!({
        "url": text(), "service": optional_text(), "status": { "type": ["integer", "null"] },
        "steps": list(&reference("Step"))
    });
    let check = json!({ "name": text(), "verdict": { "enum": ["ok", "warning", "failed"] }, "text": text() });
    let port = json!({ "name": text(), "address": optional_text(), "path": optional_text(), "text": text() });
    let service = json!({ "name": text(), "summary": text(), "mounts": list(&text()) });
    let caches = json!({ "results": reference("CacheHoldings"), "originals": reference("CacheHoldings") });
    vec![
        ("Status", object(&["node", "version", "state"], status)),
        ("ServiceStatus", object(&["name", "summary", "mounts"], service)),
        ("CacheStats", object(&["results", "originals"], caches)),
        ("CacheHoldings", object(&["resident", "kept", "disk_ok"], holdings)),
        ("PurgeRequest", purge),
        ("PurgeReport", object(&["sequence", "text", "reached", "not_reached"], reached)),
        ("Explanation", object(&["url", "steps"], explanation)),
        (
            "UrlRequest",
            object(&["source"], json!({ "source": text(), "options": list(&text()), "format": text() })),
        ),
        ("UrlAnswer", object(&["url", "signed"], json!({ "url": text(), "signed": { "type": "boolean" } }))),
        ("Step", object(&["stage", "text"], json!({ "stage": text(), "text": text(), "values": {} }))),
        ("DoctorReport", object(&["checks"], json!({ "checks": list(&reference("DoctorCheck")) }))),
        ("DoctorCheck", object(&["name", "verdict", "text"], check)),
        ("PortList", object(&["ports"], json!({ "ports": list(&reference("Port")) }))),
        ("Port", object(&["name", "text"], port)),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use serde::Serialize;
    use tutti_base::Wall;
    use tutti_store::document::{Difference, Happened, Plan, Revised};
    use tutti_store::secrets::SecretInfo;

    use super::*;
    use crate::api::{ApplyCall, CallTerms, DocumentAnswer, RollbackCall, SetCall, UnsetCall};
    use crate::console::{
        CacheStats, DoctorCheck, DoctorReport, Explanation, Port, PortList, PurgeReport, ServiceStatus,
        Status, Step, UrlAnswer, UrlRequest, Verdict,
    };
    use crate::problem::ProblemBody;

    #[test]
    fn every_route_is_described_and_every_reference_resolves() {
        let description = description();
        for route in routes() {
            let operation = &description["paths"][route.template()][route.method.to_lowercase()];
            assert_eq!(operation["summary"], route.summary, "{} {}", route.method, route.path);
        }
        let text = description.to_string();
        let names: BTreeSet<_> =
            text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(names.len() > 20);
        for name in names {
            assert!(description["components"]["schemas"][name].is_object(), "{name}");
        }
    }

    pub(super) fn check(name: &str, value: &impl Serialize) {
        let value = serde_json::to_value(value).unwrap();
        let schema = &schemas()[name];
        let written: BTreeSet<_> = value.as_object().unwrap().keys().collect();
        let described: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
        let missing: Vec<_> = written.difference(&described).collect();
        assert!(missing.is_empty(), "{name} writes {missing:?}, which is not described");
        for required in schema["required"].as_array().unwrap() {
            assert!(value.get(required.as_str().unwrap()).is_some(), "{name} does not write {required}");
        }
    }

    #[test]
    fn the_schemas_are_what_the_types_write() {
        let text = String::new;
        let terms = CallTerms::default;
        check("SetCall", &SetCall { path: text(), value: text(), terms: terms() });
        check("UnsetCall", &UnsetCall { path: text(), terms: terms() });
        check("ApplyCall", &ApplyCall { text: text(), replace: true, terms: terms() });
        check("RollbackCall", &RollbackCall { to: 1, terms: terms() });
        check("Document", &DocumentAnswer { revision: 1, text: text(), value: Value::Null });
        let difference = Difference { path: text(), what: Happened::Added, old: None, new: None };
        check("Difference", &difference);
        let (changes, consequences) = (vec![difference], vec![]);
        check("Plan", &Plan { revision: 1, applied: true, changes, consequences });
        let when = Wall(1);
        check("HistoryLine", &Revised { revision: 1, who: text(), why: text(), when, changes: None });
        check("SecretInfo", &SecretInfo { name: text(), created: when, changed: when });
        let mut status = Status::default();
        status.more.insert("x".into(), Value::Null);
        status.nodes.push(Default::default());
        status.choices.push(Default::default());
        check("Status", &status);
        check("ServiceStatus", &ServiceStatus::default());
        check("CacheStats", &CacheStats::default());
        check("CacheHoldings", &CacheStats::default().results);
        check("PurgeReport", &PurgeReport::default());
        check("Explanation", &Explanation::default());
        let asked = UrlRequest { source: text(), options: vec![text()], format: Some(text()) };
        check("UrlRequest", &asked);
        check("UrlAnswer", &UrlAnswer { url: text(), signed: true });
        check("Step", &Step { values: json!(1), ..Step::default() });
        check("DoctorReport", &DoctorReport::default());
        check("DoctorCheck", &DoctorCheck { name: text(), verdict: Verdict::Ok, text: text() });
        check("PortList", &PortList::default());
        check("Port", &Port { name: text(), address: None, path: None, text: text() });
        let problem = tutti_base::Problem::new(tutti_base::Kind::NotFound, "x").about("y");
        check("Problem", &ProblemBody::from(&problem));
    }
}
