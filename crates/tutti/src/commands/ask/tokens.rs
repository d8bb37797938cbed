//! `tutti token …`.

use tutti_admin::Client;
use tutti_admin::console::{TokenCall, TokenInfo};

use super::print::{Out, table};
use super::show::time;
use crate::cli::TokenAction;

/// Makes, lists or revokes tokens.
pub(crate) async fn run(client: &Client, action: TokenAction, out: &Out) -> anyhow::Result<()> {
    match action {
        TokenAction::Create { roles, expires, address } => {
            let call = TokenCall { roles, expires_s: Some(expires.as_secs()), addresses: address };
            let token = client.token_create(&call).await?;
            // The line and nothing else, so that it can be handed on by a pipe.
            out.say(&token, |token| token.command.clone())
        }
        TokenAction::List => {
            let tokens = client.tokens().await?;
            out.say(&tokens, |tokens| list(tokens))
        }
        TokenAction::Revoke { id } => {
            client.token_revoke(&id).await?;
            out.done(&format!("token {id} is revoked"))
        }
    }
}

fn list(tokens: &[TokenInfo]) -> String {
    if tokens.is_empty() {
        return "no tokens; `tutti token create` makes one".into();
    }
    let head = ["id", "state", "roles", "created", "expires", "used by"].map(Into::into).to_vec();
    let rows = tokens.iter().map(|token| {
        vec![
            token.id.clone(),
            token.state.clone(),
            token.roles.join(","),
            time(token.created),
            time(token.expires),
            token.used_by.clone().unwrap_or_default(),
        ]
    });
    table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}
