//! Tokens: the one line with which a machine joins. Values only; a token itself is never printed but where it was made.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tutti_base::{Roles, Wall};

/// The shortest life of a token.
pub const TOKEN_EXPIRES_MIN: Duration = Duration::from_secs(10);
/// The longest life of a token.
pub const TOKEN_EXPIRES_MAX: Duration = Duration::from_secs(30 * 86_400);
/// How long a token lives unless said otherwise.
const TOKEN_EXPIRES: Duration = Duration::from_secs(3600);

/// A token as it is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenCall {
    /// The roles that the machine may have; all unless given.
    pub roles: Vec<String>,
    /// How long it may be used, in seconds; an hour unless given.
    pub expires_s: Option<u64>,
    /// Where the machine finds this cluster; what the nodes advertise unless given.
    pub addresses: Vec<SocketAddr>,
}

/// A token as it is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenTerms {
    /// The roles that the machine may have.
    pub roles: Roles,
    /// How long it may be used.
    pub expires: Duration,
    /// Where the machine finds this cluster; empty for what the nodes advertise.
    pub addresses: Vec<SocketAddr>,
    /// Who asked.
    pub who: String,
}

impl TokenCall {
    /// The terms, asked for by `who`; what is wrong with them where it cannot be.
    pub fn terms(self, who: String) -> Result<TokenTerms, String> {
        let roles: Roles = match self.roles.is_empty() {
            true => Roles::ALL,
            false => self.roles.join(",").parse()?,
        };
        if roles == Roles::default() {
            return Err("`roles` names no role; roles are front, worker, voter and cache".into());
        }
        let expires = self.expires_s.map_or(TOKEN_EXPIRES, Duration::from_secs);
        if !(TOKEN_EXPIRES_MIN..=TOKEN_EXPIRES_MAX).contains(&expires) {
            return Err(format!(
                "`expires_s` is {}; it must be {} to {}",
                expires.as_secs(),
                TOKEN_EXPIRES_MIN.as_secs(),
                TOKEN_EXPIRES_MAX.as_secs()
            ));
        }
        Ok(TokenTerms { roles, expires, addresses: self.addresses, who })
    }
}

/// A token that was just made: the only time that it is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// Names it for `token revoke`.
    pub id: String,
    /// The token. Who has it may join.
    pub token: String,
    /// The line for the next machine.
    pub command: String,
    /// Until when it may be used.
    pub expires: Wall,
}

impl NewToken {
    /// A token with its command.
    pub fn new(id: String, token: String, expires: Wall) -> Self {
        let command = format!("tutti serve --join {token}");
        Self { id, token, command, expires }
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewToken({})", self.id)
    }
}

/// A token as lists show it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Its id.
    pub id: String,
    /// The roles that its machine may have.
    pub roles: Vec<String>,
    /// When it was made.
    pub created: Wall,
    /// Until when it may be used.
    pub expires: Wall,
    /// `open`, `used`, `revoked` or `expired`.
    pub state: String,
    /// The name of the machine that used it.
    #[serde(default)]
    pub used_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_checked_with_the_way_out() {
        let terms = TokenCall::default().terms("root".into()).unwrap();
        assert_eq!((terms.roles, terms.expires), (Roles::ALL, TOKEN_EXPIRES));
        let some = TokenCall { roles: vec!["front".into(), "worker".into()], ..TokenCall::default() };
        assert_eq!(some.terms(String::new()).unwrap().roles, Roles::FRONT.with(Roles::WORKER));
        for (call, words) in [
            (TokenCall { roles: vec!["fornt".into()], ..TokenCall::default() }, "`fornt`"),
            (TokenCall { roles: vec![",".into()], ..TokenCall::default() }, "no role"),
            (TokenCall { expires_s: Some(9), ..TokenCall::default() }, "10 to"),
            (TokenCall { expires_s: Some(u64::MAX), ..TokenCall::default() }, "to 2592000"),
        ] {
            let refused = call.terms(String::new()).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn a_token_is_not_in_what_is_logged() {
        let token = NewToken::new("7".into(), "needle".into(), Wall(1));
        assert_eq!(token.command, "tutti serve --join needle");
        assert!(!format!("{token:?}").contains("needle"));
    }
}
