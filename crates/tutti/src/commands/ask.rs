//! Commands that ask a running server over the admin socket of its data directory.

mod assets;
mod backup;
mod config;
mod events;
mod lock;
mod nodes;
mod print;
mod show;
mod status;
mod store;
mod tokens;

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, bail};
use tutti_admin::Client;
use tutti_admin::console::{PurgeRequest, Verdict};
use tutti_store::Secret;

use crate::cli::{CacheAction, Command, PurgeArgs, SecretAction};
use crate::settings::default_data;
use print::Out;

/// Asks the server that `asked` names, and prints what it says.
pub(crate) fn run(asked: Command, data: Option<PathBuf>, json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let data = std::path::absolute(data.unwrap_or_else(default_data))?;
    runtime.block_on(ask(asked, &Client::new(data), Out::new(json)))
}

async fn ask(asked: Command, client: &Client, out: Out) -> anyhow::Result<()> {
    match asked {
        Command::Config { action } => config::run(client, action, &out).await,
        Command::Secret { action } => secret(client, action, &out).await,
        Command::Cache { action } => cache(client, action, &out).await,
        Command::Token { action } => tokens::run(client, action, &out).await,
        Command::Nodes => nodes::list(client, &out).await,
        Command::Node { action } => nodes::run(client, action, &out).await,
        Command::Promote(args) => nodes::promote(client, args, &out).await,
        Command::Events(args) => events::run(client, &args, &out).await,
        Command::Assets { action } => assets::run(client, action, &out).await,
        Command::Store { action } => store::run(client, action, &out).await,
        Command::Backup { file } => backup::write(client, &file, &out).await,
        Command::Restore { file } => backup::restore(client, &file, &out).await,
        Command::Status => {
            let status = client.status().await?;
            out.say(&status, status::status)
        }
        Command::Explain { url } => {
            let explanation = client.explain(&url).await?;
            out.say(&explanation, show::explanation)
        }
        Command::Doctor => doctor(client, &out).await,
        Command::Ports => {
            let ports = client.ports().await?;
            out.say(&ports, show::ports)
        }
        Command::Url { source, options, format } => {
            url(client, &source, &options, format.as_deref(), &out).await
        }
        _ => bail!("this command asks no server"),
    }
}

async fn secret(client: &Client, action: SecretAction, out: &Out) -> anyhow::Result<()> {
    match action {
        SecretAction::Set { name } => {
            let mut value = Vec::new();
            std::io::stdin().lock().read_to_end(&mut value).context("the secret could not be read")?;
            if value.last() == Some(&b'\n') {
                value.pop();
            }
            client.secret_set(&name, &Secret::new(value)).await?;
            out.done(&format!("secret `{name}` is set; refer to it as `secret:{name}`"))
        }
        SecretAction::List => {
            let secrets = client.secrets().await?;
            out.say(&secrets, |secrets| show::secrets(secrets))
        }
        SecretAction::Rm { name } => {
            client.secret_remove(&name).await?;
            out.done(&format!("secret `{name}` is removed"))
        }
    }
}

async fn cache(client: &Client, action: CacheAction, out: &Out) -> anyhow::Result<()> {
    match action {
        CacheAction::Stats => {
            let stats = client.cache_stats().await?;
            out.say(&stats, show::caches)
        }
        CacheAction::Purge(args) => {
            let report = client.cache_purge(&purge(args)?).await?;
            out.say(&report, show::purged)
        }
    }
}

fn purge(args: PurgeArgs) -> anyhow::Result<PurgeRequest> {
    Ok(match args {
        PurgeArgs { url: Some(url), .. } => PurgeRequest::Url(url),
        PurgeArgs { source: Some(source), .. } => PurgeRequest::Source(source),
        PurgeArgs { tag: Some(tag), .. } => PurgeRequest::Tag(tag),
        PurgeArgs { all: true, .. } => PurgeRequest::All(true),
        PurgeArgs { .. } => bail!("give one of --url, --source, --tag and --all"),
    })
}

async fn doctor(client: &Client, out: &Out) -> anyhow::Result<()> {
    let report = client.doctor().await?;
    out.say(&report, show::doctor)?;
    if report.checks.iter().any(|check| check.verdict == Verdict::Failed) {
        bail!("something does not work; see above");
    }
    Ok(())
}

async fn url(
    client: &Client,
    source: &str,
    options: &[String],
    format: Option<&str>,
    out: &Out,
) -> anyhow::Result<()> {
    let call = tutti_admin::console::UrlRequest {
        source: source.into(),
        options: options.to_vec(),
        format: format.map(Into::into),
    };
    let answer = client.url(&call).await?;
    out.say(&answer, |answer| answer.url.clone())
}
