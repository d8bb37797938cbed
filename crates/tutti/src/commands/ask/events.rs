//! `tutti events`.

use std::time::Duration;

use tutti_admin::Client;
use tutti_admin::console::Event;

use super::print::{Out, table};
use super::show::time;
use crate::cli::EventsArgs;

/// How long one call waits for news; the server may answer earlier.
const WAIT: Duration = Duration::from_secs(20);
/// The most events of one answer while following.
const FOLLOW_LIMIT: usize = 1000;

/// Prints the journal, and goes on where that is asked.
pub(crate) async fn run(client: &Client, args: &EventsArgs, out: &Out) -> anyhow::Result<()> {
    let mut page = client.events(None, args.limit.into(), Duration::ZERO).await?;
    if !args.follow {
        return out.say(&page.events, |events| list(events));
    }
    loop {
        if page.missed {
            eprintln!("tutti: events between are forgotten");
        }
        for event in &page.events {
            out.line(event, line)?;
        }
        page = client.events(Some(&page.cursor), FOLLOW_LIMIT, WAIT).await?;
    }
}

fn list(events: &[Event]) -> String {
    if events.is_empty() {
        return "nothing happened yet".into();
    }
    let head = ["when", "node", "what", "why"].map(Into::into).to_vec();
    let rows = events
        .iter()
        .map(|event| vec![time(event.when), event.node.clone(), event.what.clone(), event.why.clone()]);
    table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}

fn line(event: &Event) -> String {
    let why = if event.why.is_empty() { String::new() } else { format!(" ({})", event.why) };
    format!("{}  {}  {}{why}", time(event.when), event.node, event.what)
}
