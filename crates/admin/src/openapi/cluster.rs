//! Schemas of the cluster's part: nodes, tokens, the journal, originals, the users' store. A test holds them to the types.

use serde_json::{Value, json};

use super::{flag, list, number, object, optional_text, reference, text};

fn optional_number() -> Value {
    json!({ "type": ["integer", "null"] })
}

/// A value that is exactly one of these, named by its only key.
fn one_of(forms: &[(&str, Value)]) -> Value {
    let properties: serde_json::Map<_, _> =
        forms.iter().map(|(name, form)| ((*name).to_owned(), form.clone())).collect();
    json!({
        "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
        "properties": properties
    })
}

/// The schemas.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    [node_schemas(), token_schemas(), asset_schemas(), store_schemas(), store_calls()]
        .into_iter()
        .flatten()
        .collect()
}

fn node_schemas() -> Vec<(&'static str, Value)> {
    let node = json!({
        "id": text(), "name": text(), "state": { "enum": ["up", "suspect", "down", "draining"] },
        "roles": list(&text()), "version": text(), "is_me": flag(),
        "voter": { "enum": ["voter", "learner", "none", ""] }, "leader": flag(), "holds_address": flag(),
        "used_pct": number(), "free_pct": number(), "jobs": number(), "backlog_ms": number(),
        "requests": number(), "hit_pct": number(), "heard_ms_ago": number(), "rtt_us": number(),
        "cache_mib": number(), "addresses": list(&text())
    });
    let action = one_of(&[
        ("drain", json!({ "type": "object", "properties": { "why": text() } })),
        ("resume", json!({ "type": "object" })),
        ("remove", json!({ "type": "object", "properties": { "force": flag() } })),
        ("roles", object(&["roles"], json!({ "roles": list(&text()) }))),
    ]);
    let done = json!({ "name": text(), "text": text(), "rotate": list(&text()) });
    let address = json!({ "address": text(), "holder": optional_text() });
    let choice = json!({ "node": text(), "reason": text(), "count": number() });
    let promoted = json!({ "name": text(), "epoch": number(), "text": text() });
    let event = json!({ "when": number(), "node": text(), "what": text(), "why": text() });
    let page = json!({ "events": list(&reference("Event")), "cursor": text(), "missed": flag() });
    let restored = json!({ "entries": number(), "revision": number(), "text": text() });
    vec![
        ("NodeStatus", object(&["id", "name", "state", "roles"], node)),
        ("ClusterAddress", object(&["address", "holder"], address)),
        ("Choice", object(&["node", "reason", "count"], choice)),
        ("NodeAction", action),
        ("NodeDone", object(&["name", "text", "rotate"], done)),
        ("PromoteCall", object(&["name", "confirm"], json!({ "name": text(), "confirm": text() }))),
        ("Promoted", object(&["name", "epoch", "text"], promoted)),
        ("Event", object(&["when", "node", "what", "why"], event)),
        ("EventPage", object(&["events", "cursor"], page)),
        ("RestoreDone", object(&["entries", "revision", "text"], restored)),
    ]
}

fn token_schemas() -> Vec<(&'static str, Value)> {
    let call = json!({ "roles": list(&text()), "expires_s": optional_number(), "addresses": list(&text()) });
    let token = json!({ "id": text(), "token": text(), "command": text(), "expires": number() });
    let info = json!({
        "id": text(), "roles": list(&text()), "created": number(), "expires": number(),
        "state": { "enum": ["open", "used", "revoked", "expired", ""] }, "used_by": optional_text()
    });
    vec![
        ("TokenCall", object(&[], call)),
        ("NewToken", object(&["id", "token", "command", "expires"], token)),
        ("TokenInfo", object(&["id", "roles", "expires", "state"], info)),
        ("Tokens", list(&reference("TokenInfo"))),
    ]
}

fn asset_schemas() -> Vec<(&'static str, Value)> {
    let asset = json!({
        "path": text(), "bytes": number(), "modified": number(), "nodes": list(&text()), "conflict": flag()
    });
    let page = json!({
        "folder": text(), "assets": list(&reference("Asset")), "more": flag(), "absent": list(&text())
    });
    let done = json!({ "url": text(), "bytes": number(), "nodes": list(&text()), "text": text() });
    vec![
        ("Asset", object(&["path", "bytes", "modified", "nodes", "conflict"], asset)),
        ("AssetPage", object(&["folder", "assets", "more"], page)),
        ("AssetDone", object(&["url", "bytes", "nodes", "text"], done)),
    ]
}

fn store_schemas() -> Vec<(&'static str, Value)> {
    let entry = json!({
        "key": text(), "value": text(), "encoding": { "enum": ["text", "base64"] }, "created": number(),
        "modified": number(), "lease": optional_number()
    });
    let page = json!({ "revision": number(), "entries": list(&reference("StoreEntry")), "more": flag() });
    let answer = json!({
        "done": flag(), "revision": optional_number(), "failed": optional_number(), "found": optional_number()
    });
    let entry_or_none = json!({ "anyOf": [reference("StoreEntry"), { "type": "null" }] });
    let change = json!({ "key": text(), "revision": number(), "entry": entry_or_none });
    let watch = json!({ "changes": list(&reference("StoreChange")), "next": number(), "behind": flag() });
    vec![
        ("StoreEntry", object(&["key", "value", "created", "modified"], entry)),
        ("StorePage", object(&["revision", "entries", "more"], page)),
        ("TxnAnswer", object(&["done"], answer)),
        ("StoreChange", object(&["key", "revision", "entry"], change)),
        ("WatchPage", object(&["changes", "next", "behind"], watch)),
        ("Lease", object(&["lease", "ttl_ms"], json!({ "lease": number(), "ttl_ms": number() }))),
        ("GrantCall", object(&["ttl_ms"], json!({ "ttl_ms": number() }))),
    ]
}

fn store_calls() -> Vec<(&'static str, Value)> {
    let encoding = json!({ "enum": ["text", "base64"] });
    let put = json!({
        "key": text(), "value": text(), "encoding": encoding, "lease": optional_number(),
        "if_revision": optional_number(), "if_absent": flag()
    });
    let key = object(&["key"], json!({ "key": text() }));
    let value = json!({ "key": text(), "value": text(), "encoding": encoding });
    let written = json!({ "key": text(), "value": text(), "encoding": encoding, "lease": optional_number() });
    let condition = one_of(&[
        ("modified", object(&["key", "revision"], json!({ "key": text(), "revision": number() }))),
        ("absent", key.clone()),
        ("exists", key.clone()),
        ("equals", object(&["key", "value"], value)),
        ("held", object(&["key", "lease"], json!({ "key": text(), "lease": number() }))),
    ]);
    let action = one_of(&[("put", object(&["key", "value"], written)), ("delete", key)]);
    let txn = json!({
        "when": list(&reference("Condition")), "then": list(&reference("StoreAction")),
        "otherwise": list(&reference("StoreAction"))
    });
    vec![
        ("PutCall", object(&["key", "value"], put)),
        ("Condition", condition),
        ("StoreAction", action),
        ("TxnCall", object(&[], txn)),
    ]
}

#[cfg(test)]
mod tests {
    use tutti_base::Wall;

    use crate::console::{
        Asset, AssetDone, AssetPage, Choice, ClusterAddress, Event, EventPage, NewToken, NodeDone,
        NodeStatus, PromoteCall, Promoted, RestoreDone, TokenCall, TokenInfo,
    };
    use crate::openapi::tests::check;
    use crate::user_store::{
        GrantCall, LeaseAnswer, PutCall, StoreChange, StoreEntry, StorePage, TxnAnswer, TxnCall, WatchPage,
    };

    #[test]
    fn the_schemas_of_the_cluster_are_what_the_types_write() {
        check("NodeStatus", &NodeStatus { addresses: vec![String::new()], ..NodeStatus::default() });
        check("ClusterAddress", &ClusterAddress::default());
        check("Choice", &Choice::default());
        check("NodeDone", &NodeDone::default());
        check("PromoteCall", &PromoteCall { name: String::new(), confirm: String::new() });
        check("Promoted", &Promoted::default());
        check("Event", &Event::default());
        check("EventPage", &EventPage::default());
        check("RestoreDone", &RestoreDone::default());
        check("TokenCall", &TokenCall::default());
        check("NewToken", &NewToken::new(String::new(), String::new(), Wall(1)));
        check("TokenInfo", &TokenInfo::default());
        check("Asset", &Asset::default());
        check("AssetPage", &AssetPage::default());
        check("AssetDone", &AssetDone::default());
        check("StoreEntry", &StoreEntry::default());
        check("StorePage", &StorePage::default());
        check("PutCall", &PutCall::default());
        check("TxnCall", &TxnCall::default());
        check("TxnAnswer", &TxnAnswer::default());
        check("StoreChange", &StoreChange::default());
        check("WatchPage", &WatchPage::default());
        check("Lease", &LeaseAnswer { lease: 1, ttl_ms: 1 });
        check("GrantCall", &GrantCall { ttl_ms: 1 });
    }
}
