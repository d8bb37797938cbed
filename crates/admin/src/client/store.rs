//! Calls about the users' store.

use std::time::Duration;

use serde_json::Value;

use super::{Client, ClientError, escape};
use crate::user_store::{GrantCall, LeaseAnswer, PutCall, StorePage, TxnAnswer, TxnCall, WatchPage};

/// How fresh a read is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Freshness {
    /// As this node shows it, without asking others.
    #[default]
    Local,
    /// Every write that was acknowledged before, anywhere.
    Linearizable,
}

impl Freshness {
    fn query(self) -> &'static str {
        match self {
            Freshness::Local => "",
            Freshness::Linearizable => "&linearizable=true",
        }
    }
}

impl Client {
    /// One key.
    pub async fn store_get(&self, key: &str, freshness: Freshness) -> Result<StorePage, ClientError> {
        self.get(&format!("/api/v1/store?key={}{}", escape(key), freshness.query())).await
    }
    /// A page of the keys that begin with `prefix`, after `after`.
    pub async fn store_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        freshness: Freshness,
    ) -> Result<StorePage, ClientError> {
        let after = after.map(|after| format!("&after={}", escape(after))).unwrap_or_default();
        self.get(&format!("/api/v1/store?prefix={}{after}{}", escape(prefix), freshness.query())).await
    }
    /// Writes a key. `Refused` with status 409 where its condition does not hold.
    pub async fn store_put(&self, call: &PutCall) -> Result<TxnAnswer, ClientError> {
        self.post("/api/v1/store/put", call).await
    }
    /// Applies a transaction.
    pub async fn store_txn(&self, call: &TxnCall) -> Result<TxnAnswer, ClientError> {
        self.post("/api/v1/store/txn", call).await
    }
    /// Changes after `after`, or from now on; waits for the first for up to `wait`.
    pub async fn store_watch(
        &self,
        prefix: &str,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<WatchPage, ClientError> {
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let wait_ms = wait.as_millis();
        self.get(&format!("/api/v1/store/watch?prefix={}&wait_ms={wait_ms}{after}", escape(prefix))).await
    }
    /// A lease of `ttl`.
    pub async fn store_grant(&self, ttl: Duration) -> Result<LeaseAnswer, ClientError> {
        self.post("/api/v1/store/leases", &GrantCall { ttl_ms: ttl.as_millis() as u64 }).await
    }
    /// Lets a lease live for its whole time again.
    pub async fn store_keep_alive(&self, lease: u64) -> Result<(), ClientError> {
        self.post::<Value>(&format!("/api/v1/store/leases/{lease}"), &Value::Null).await.map(|_| ())
    }
    /// Ends a lease; its keys go with it.
    pub async fn store_revoke(&self, lease: u64) -> Result<(), ClientError> {
        self.delete::<Value>(&format!("/api/v1/store/leases/{lease}")).await.map(|_| ())
    }
}
