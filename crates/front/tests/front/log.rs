//! The access log as it comes out.

use tutti_front::{Config, LogConfig, LogFormat, LogMode};

use super::house::{House, config, get, start};

fn house(mode: LogMode, format: LogFormat) -> House {
    start(Config { log: LogConfig { mode, format, sample: 10, ..LogConfig::default() }, ..config() })
}

fn ask_much(house: &House) {
    let mut client = house.client();
    for _ in 0..20 {
        client.send(get("/t/hit", ""));
        client.reply();
    }
    house.get("/t/full", "");
    house.ask("GET /\"\x1b[2J HTTP/1.1\r\n\r\n");
}

#[test]
fn errors_and_a_sample_are_logged_and_no_line_can_be_forged() {
    let mut house = house(LogMode::Sampled, LogFormat::Json);
    ask_much(&house);
    let text = house.logged();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let with = |status: u16| lines.iter().filter(|line| line["status"] == status).collect::<Vec<_>>();
    assert_eq!((with(200).len(), with(503).len(), with(400).len(), lines.len()), (2, 1, 1, 4), "{text}");
    let hit = with(200)[0];
    assert_eq!(
        (&hit["target"], &hit["cache"], &hit["service"]),
        (&"/t/hit".into(), &"hit".into(), &"fake".into())
    );
    assert!(hit["ms"].as_f64().unwrap() >= 0.0 && hit["bytes"].as_u64().unwrap() > 100, "{hit}");
    assert_eq!(with(503)[0]["cause"], "secret");
    assert!(with(400)[0]["target"].as_str().unwrap().starts_with("GET /\"\u{1b}"), "{text}");
}

#[test]
fn every_request_is_logged_or_none() {
    let mut all = house(LogMode::All, LogFormat::Human);
    ask_much(&all);
    let text = all.logged();
    assert_eq!(text.lines().count(), 22, "{text}");
    assert!(text.is_ascii() && !text.contains('\u{1b}'), "{text}");
    let mut off = house(LogMode::Off, LogFormat::Json);
    ask_much(&off);
    assert_eq!(off.logged(), "");
}
